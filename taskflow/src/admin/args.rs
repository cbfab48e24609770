//! Which arguments and results people see.

use serde_json::value::RawValue;

use crate::model::sealed;

/// Which arguments and results are shown.
///
/// Values under a redacted key are replaced by `"•••"`, at any depth. The case of ASCII letters in keys is ignored. An actor
/// with [`Permission::ViewSecrets`](super::Permission::ViewSecrets) sees everything, also what is [hidden](Self::hidden).
#[derive(Clone, Debug, Default)]
pub struct Args {
    hidden: bool,
    keys: Vec<String>,
}

impl Args {
    /// Shows all arguments and results. This is the default.
    #[must_use]
    pub fn shown() -> Self {
        Self::default()
    }

    /// Hides all arguments and results, except from an actor with
    /// [`Permission::ViewSecrets`](super::Permission::ViewSecrets).
    #[must_use]
    pub fn hidden() -> Self {
        Self { hidden: true, keys: Vec::new() }
    }

    /// Hides the values under these keys of arguments and results.
    #[must_use]
    pub fn redact<S: AsRef<str>>(keys: impl IntoIterator<Item = S>) -> Self {
        Self { hidden: false, keys: keys.into_iter().map(|key| key.as_ref().to_ascii_lowercase()).collect() }
    }

    /// The JSON that may be shown; `None` if nothing may. Numbers keep their digits.
    pub(crate) fn visible(&self, json: &RawValue) -> Option<Box<RawValue>> {
        if self.hidden {
            return None;
        }
        if self.keys.is_empty() || sealed::is_sealed(json.get()) {
            return Some(json.to_owned());
        }
        let mut out = String::with_capacity(json.get().len());
        self.copy(json, &mut out);
        RawValue::from_string(out).ok()
    }

    fn copy(&self, json: &RawValue, out: &mut String) {
        let text = json.get();
        match text.as_bytes().first() {
            Some(b'{') => {
                let fields: Fields<'_> = serde_json::from_str(text).unwrap_or_default();
                out.push('{');
                for (index, (key, value)) in fields.0.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push_str(&serde_json::Value::from(key.as_str()).to_string());
                    out.push(':');
                    match self.keys.contains(&key.to_ascii_lowercase()) {
                        true => out.push_str("\"•••\""),
                        false => self.copy(value, out),
                    }
                }
                out.push('}');
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    self.copy(item, out);
                }
                out.push(']');
            }
            _ => out.push_str(text),
        }
    }
}

/// The fields of a JSON object in their order, also repeated ones.
#[derive(Default)]
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Fields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Visitor).map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(args: &Args, json: &str) -> String {
        let json: Box<RawValue> = serde_json::from_str(json).expect("JSON");
        args.visible(&json).map_or_else(|| "nothing".to_owned(), |json| json.get().to_owned())
    }

    #[test]
    fn a_redacted_key_is_hidden_at_any_depth_and_numbers_keep_their_digits() {
        let args = Args::redact(["Password", "card"]);
        let json =
            r#"{"id": 18446744073709551616, "PASSWORD": "a\"b", "list": [{"card": {"n": 1}, "x": 1.10}]}"#;
        let want = r#"{"id":18446744073709551616,"PASSWORD":"•••","list":[{"card":"•••","x":1.10}]}"#;
        assert_eq!(shown(&args, json), want);
        // A key that is written with escapes is the same key.
        assert_eq!(shown(&args, r#"{"pass\u0077ord":1}"#), r#"{"password":"•••"}"#);
        assert_eq!(shown(&args, r#"{"card":1,"card":2}"#), r#"{"card":"•••","card":"•••"}"#);
    }

    #[test]
    fn nothing_is_changed_without_keys_and_nothing_is_shown_if_all_is_hidden() {
        let json = r#"{ "a":  [1, 2] }"#;
        assert_eq!(shown(&Args::shown(), json), json);
        assert_eq!(shown(&Args::hidden(), json), "nothing");
    }
}
