//! Recognizes sealed (encrypted) values. The module `crypt` seals and opens them; this part needs no key and is in every build.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{LogLine, TaskRecord};

/// The beginning of every sealed value. No Rust parameter can be named `$tf`.
const BEGINNING: &str = r#"{"$tf":"enc1","k":""#;

/// The shortest prefix that only sealed values have, so that a damaged sealed value is not taken for plain JSON.
const MARK: &[u8] = br#"{"$tf""#;

/// Why such arguments are refused.
const REFUSED: &str = r#"it begins with `{"$tf"`, as sealed arguments do; give plain arguments, which a manager with keys seals"#;

/// Whether this text, of JSON or of an error or a log line, is sealed.
pub(crate) fn is_sealed(text: &str) -> bool {
    text.as_bytes().starts_with(MARK)
}

/// Refuses arguments from a caller that begin like sealed ones.
///
/// # Errors
/// The text says what is wrong with them.
pub(crate) fn refuse(args: &str) -> Result<(), String> {
    if is_sealed(args) {
        return Err(REFUSED.to_owned());
    }
    Ok(())
}

/// The id of the key with which this text is sealed, or `unknown` if it is damaged; `None` if it is not sealed.
pub(crate) fn key_of(text: &str) -> Option<&str> {
    if !is_sealed(text) {
        return None;
    }
    let id = text.strip_prefix(BEGINNING).and_then(|rest| rest.split('"').next());
    Some(id.filter(|id| is_key_id(id)).unwrap_or("unknown"))
}

/// Whether this is the id of a key: 8 hexadecimal digits.
pub(crate) fn is_key_id(id: &str) -> bool {
    id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The text to show to people: for a sealed text, the words `sealed with key ..`.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    match key_of(text) {
        None => Cow::Borrowed(text),
        Some(key) => Cow::Owned(format!("sealed with key {key}")),
    }
}

impl TaskRecord {
    /// The id of the key with which a part of this record is [sealed](crate::TaskManagerBuilder#method.encrypt): its
    /// arguments, else its result, else an error. `None` if no part of it is sealed.
    #[must_use]
    pub fn sealed_with(&self) -> Option<&str> {
        self.sealing_keys().next()
    }

    /// The ids of the keys with which its parts are sealed, one for each sealed part. After a key rotation the arguments and
    /// the result of a task may name different keys.
    pub fn sealing_keys(&self) -> impl Iterator<Item = &str> {
        let errors = self.attempts.iter().map(|attempt| attempt.error.as_deref());
        let texts = [Some(self.args.get()), self.result.as_deref().map(RawValue::get), self.error.as_deref()];
        texts.into_iter().chain(errors).flatten().filter_map(key_of)
    }

    /// Replaces each sealed part by the words `sealed with key ..`, to show the record to people. Other parts do not change.
    pub fn hide_sealed(&mut self) {
        let words = |text: &str| {
            let words = serde_json::to_string(&shown(text)).expect("a text is JSON");
            RawValue::from_string(words).expect("a text is JSON")
        };
        if is_sealed(self.args.get()) {
            self.args = words(self.args.get());
        }
        if let Some(result) = self.result.as_mut().filter(|result| is_sealed(result.get())) {
            *result = words(result.get());
        }
        let errors = self.attempts.iter_mut().map(|attempt| &mut attempt.error);
        for error in errors.chain([&mut self.error]).flatten().filter(|error| is_sealed(error)) {
            *error = shown(error).into_owned();
        }
    }
}

impl LogLine {
    /// Replaces a sealed message by the words `sealed with key ..`, to show the line to people.
    pub fn hide_sealed(&mut self) {
        if is_sealed(&self.message) {
            self.message = shown(&self.message).into_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_names_its_key_and_any_other_stays() {
        let sealed = r#"{"$tf":"enc1","k":"a1b2c3d4","n":"..","c":".."}"#;
        assert_eq!(key_of(sealed), Some("a1b2c3d4"));
        assert_eq!(shown(sealed), "sealed with key a1b2c3d4");
        assert_eq!(key_of(r#"{"$tf":"enc9"}"#), Some("unknown"));
        for plain in ["", "{}", r#"{"to":"ada"}"#, "no route to host"] {
            assert_eq!(key_of(plain), None);
            assert_eq!(shown(plain), plain);
        }
    }
}
