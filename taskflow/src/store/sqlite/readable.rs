//! Reads columns that may contain any value, because another program may have written them.

use rusqlite::types::ValueRef;

use crate::model::time;

/// Whether SQLite answered, but the value cannot be read.
pub(super) fn is_unreadable(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    matches!(
        error,
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..)
    )
}

/// The error for a column whose value cannot be read.
pub(super) fn unreadable(
    column: usize,
    message: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, message.into())
}

/// The error of a damaged task.
pub(super) fn reason(why: &str) -> String {
    format!("damaged in the store: {why}")
}

/// Reads a number from a column that may contain any value; `None` if it is no integer.
pub(super) fn number(value: ValueRef<'_>) -> Option<i64> {
    value.as_i64().ok()
}

/// Reads text from a column that may contain any value; `None` for `NULL`.
pub(super) fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
    }
}

/// Reads an id from a column that may contain any value. Missing bytes are 0.
pub(super) fn id(value: ValueRef<'_>) -> [u8; 16] {
    let mut id = [0; 16];
    if let Ok(bytes) = value.as_blob() {
        let length = bytes.len().min(16);
        id[..length].copy_from_slice(&bytes[..length]);
    }
    id
}

/// Reads an instant from a column that may contain any value; `None` if it is no integer.
pub(super) fn instant(value: ValueRef<'_>) -> Option<std::time::SystemTime> {
    number(value).map(time::from_micros)
}
