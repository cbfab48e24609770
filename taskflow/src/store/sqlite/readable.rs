//! Reading what may be anything: columns into which other hands have written.

use rusqlite::types::ValueRef;

use crate::model::time;

/// Whether SQLite answered, and what it gave cannot be read.
pub(super) fn is_unreadable(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    matches!(
        error,
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..)
    )
}

/// The error of a column that SQLite gave and that says nothing.
pub(super) fn unreadable(
    column: usize,
    message: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, message.into())
}

/// The error a damaged task is left with.
pub(super) fn reason(why: &str) -> String {
    format!("damaged in the store: {why}")
}

/// A number that may be anything.
pub(super) fn number(value: ValueRef<'_>) -> Option<i64> {
    value.as_i64().ok()
}

/// A text that may be anything.
pub(super) fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
    }
}

/// An id that may be anything.
pub(super) fn id(value: ValueRef<'_>) -> [u8; 16] {
    let mut id = [0; 16];
    if let Ok(bytes) = value.as_blob() {
        let length = bytes.len().min(16);
        id[..length].copy_from_slice(&bytes[..length]);
    }
    id
}

/// An instant that may be anything.
pub(super) fn instant(value: ValueRef<'_>) -> Option<std::time::SystemTime> {
    number(value).map(time::from_micros)
}
