//! The words of filters, and the errors for a wrong one.

use crate::admin::AdminError;
use crate::model::spelling::closest;

/// All words except those that begin with `tag.` or `arg.`.
pub(super) const WORDS: [&str; 17] = [
    "status",
    "phase",
    "name",
    "queue",
    "error",
    "key",
    "run_key",
    "concurrency_key",
    "trace",
    "source",
    "since",
    "created_after",
    "created_before",
    "finished_after",
    "finished_before",
    "frozen_at",
    "all",
];

/// Whether a field of a query string is a word of filters.
#[must_use]
pub fn is_word(field: &str) -> bool {
    WORDS.contains(&field) || field.starts_with("tag.") || field.starts_with("arg.")
}

/// Refuses a field that is neither a word of filters nor one of `others`. The error names the closest word that exists.
///
/// # Errors
/// [`AdminError::Invalid`].
pub fn check_word(field: &str, others: &[&str]) -> Result<(), AdminError> {
    if is_word(field) || others.contains(&field) {
        return Ok(());
    }
    let all = WORDS.iter().chain(others).copied();
    let hint = match closest(field, all) {
        Some(word) => format!("there is no such word; did you mean `{word}`?"),
        None if field == "tag" || field == "arg" => format!("write `{field}.<name>`"),
        None => format!("there is no such word; there are {}, `tag.<name>` and `arg.<name>`", {
            let words: Vec<_> = WORDS.iter().chain(others).map(|word| format!("`{word}`")).collect();
            words.join(", ")
        }),
    };
    Err(invalid(field, hint))
}

pub(super) fn invalid(field: &str, message: impl Into<String>) -> AdminError {
    AdminError::Invalid { field: field.to_owned(), message: message.into() }
}
