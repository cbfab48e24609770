//! The text of a search box.

use serde_json::value::RawValue;

use super::words::{WORDS, check_word, invalid};
use crate::admin::AdminError;
use crate::model::TaskId;
use crate::model::spelling::closest;

/// The text of a search box, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Search {
    /// The task, if the text is the id of one.
    pub id: Option<TaskId>,
    /// The words with their values, in order: the fields of the canonical query string.
    pub pairs: Vec<(String, String)>,
    /// The bare words: each matches the names that contain it.
    pub bare: Vec<String>,
}

impl Search {
    /// Reads the text of a search box: `status:failed queue:mail arg.user_id:42 error:"timed out" since:6h`.
    ///
    /// # Errors
    /// For an unknown word, with the closest one that exists; for a `:` without a word before it; and for a quotation that does
    /// not end.
    pub fn parse(text: &str) -> Result<Self, AdminError> {
        let mut search = Self::default();
        if let Ok(id) = text.trim().parse() {
            search.id = Some(id);
            return Ok(search);
        }
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let end = rest.find(|c: char| c.is_whitespace() || c == ':').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if word.is_empty() {
                return Err(invalid("q", "a word is missing before `:`"));
            }
            let Some(after) = after.strip_prefix(':') else {
                search.bare.push(word.to_owned());
                rest = after.trim_start();
                continue;
            };
            check_word(word, &[])?;
            let (values, after) = values(word, after)?;
            for value in values {
                search.pairs.push((word.to_owned(), value));
            }
            rest = after.trim_start();
        }
        Ok(search)
    }

    /// The pairs, with each bare word replaced by the known names that contain it. Case is ignored.
    ///
    /// # Errors
    /// For a bare word that no known name contains.
    pub fn expand(mut self, known: &[&str]) -> Result<Vec<(String, String)>, AdminError> {
        for bare in self.bare {
            let holds = |name: &&str| name.to_lowercase().contains(&bare.to_lowercase());
            let names: Vec<_> = known.iter().copied().filter(holds).collect();
            if names.is_empty() {
                let hint = closest(&bare, WORDS).map(|word| format!("; did you mean `{word}:`?"));
                let hint = hint.or_else(|| {
                    closest(&bare, known.iter().copied()).map(|name| format!("; did you mean `name:{name}`?"))
                });
                let hint = hint.unwrap_or_else(|| "; words look like `status:failed`".to_owned());
                return Err(invalid("q", format!("no known task is named like `{bare}`{hint}")));
            }
            self.pairs.extend(names.into_iter().map(|name| ("name".to_owned(), name.to_owned())));
        }
        Ok(self.pairs)
    }
}

/// The values behind `word:`, and the rest of the text.
fn values<'a>(word: &str, text: &'a str) -> Result<(Vec<String>, &'a str), AdminError> {
    if word.starts_with("arg.") {
        // The value is JSON, which may contain spaces, or a plain word. The quotes of a JSON string belong to the value.
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
        let is_json = matches!(values.next(), Some(Ok(_)));
        let end = Some(values.byte_offset())
            .filter(|end| is_json && text[*end..].chars().next().is_none_or(char::is_whitespace));
        if end.is_none() && text.starts_with('"') {
            return Err(invalid(word, "the quotation does not end"));
        }
        let end = end.unwrap_or_else(|| text.find(char::is_whitespace).unwrap_or(text.len()));
        return Ok((vec![text[..end].to_owned()], &text[end..]));
    }
    let mut all = Vec::new();
    let mut rest = text;
    loop {
        let is_list =
            !word.starts_with("tag.") && !["error", "key", "run_key", "concurrency_key"].contains(&word);
        let stops = |c: char| c.is_whitespace() || (is_list && c == ',');
        let (value, end) = match rest.starts_with('"') {
            true => quoted(word, rest)?,
            false => {
                let end = rest.find(stops).unwrap_or(rest.len());
                (rest[..end].to_owned(), end)
            }
        };
        all.push(value);
        match rest[end..].strip_prefix(',') {
            Some(more) if is_list => rest = more,
            _ => return Ok((all, &rest[end..])),
        }
    }
}

/// The text in the quotes with which `text` begins, and the position after them. `\"` and `\\` stand for a quote and a backslash.
fn quoted(word: &str, text: &str) -> Result<(String, usize), AdminError> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, at + 1)),
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                Some((_, c)) => value.extend(['\\', c]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err(invalid(word, "the quotation does not end"))
}

/// Writes pairs as the text of a search box.
#[must_use]
pub fn text<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (word, value) in pairs {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
        text.push(':');
        let is_plain = |c: char| !c.is_whitespace() && c != '"' && c != ',';
        match word.starts_with("arg.") || (!value.is_empty() && value.chars().all(is_plain)) {
            true => text.push_str(value),
            false => {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"");
                text.extend(["\"", &value, "\""]);
            }
        }
    }
    text
}
