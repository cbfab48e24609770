//! Parsers for the values of options.

use std::time::{Duration, SystemTime};

use taskflow::LogLevel;
use taskflow::admin::grammar;

/// A length of time.
pub(in crate::cli) fn length(text: &str) -> Result<Duration, String> {
    grammar::length(text)
        .filter(|length| !length.is_zero())
        .ok_or_else(|| "write `30s`, `1h30m` or `7d`".to_owned())
}

/// How far to look back: a length, or an instant.
pub(in crate::cli) fn since(text: &str) -> Result<SystemTime, String> {
    let now = SystemTime::now();
    if let Some(length) = grammar::length(text) {
        return now.checked_sub(length).ok_or_else(|| "it is too long ago".to_owned());
    }
    grammar::instant("since", text, now).map_err(|_| {
        "write a length such as `6h`, a date, or an instant such as `2026-11-01T08:00:00Z`".to_owned()
    })
}

/// An instant.
pub(in crate::cli) fn instant(text: &str) -> Result<SystemTime, String> {
    grammar::instant("at", text, SystemTime::now())
        .map_err(|_| "write an instant such as `2026-11-01T08:00:00Z`, a date, or `+6h`".to_owned())
}

/// The level of a log line.
pub(in crate::cli) fn level(text: &str) -> Result<LogLevel, String> {
    LogLevel::from_word(text).ok_or_else(|| "it is `debug`, `info`, `warn` or `error`".to_owned())
}

/// `name=value`.
pub(in crate::cli) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write `name=value`".to_owned()),
    }
}
