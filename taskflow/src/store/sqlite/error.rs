//! Conversion of SQLite's errors into store errors.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::model::{StoreError, StoreErrorKind};

/// Converts an error of SQLite. The message names the file and the remedy.
pub(super) fn store_error(error: rusqlite::Error, path: &Path) -> StoreError {
    let (kind, message) = describe(&error, path);
    StoreError::with_source(kind, message, error)
}

/// Like [`store_error`], for a commit: the kind is `Unknown` if the commit may have been stored.
pub(super) fn commit_error(error: rusqlite::Error, path: &Path) -> StoreError {
    if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
        let message = format!(
            "the disk failed while `{}` was being written, and the last writes may or may not have been stored",
            path.display()
        );
        return StoreError::with_source(StoreErrorKind::Unknown, message, error);
    }
    store_error(error, path)
}

/// The error when the file was moved or deleted while this program had it open.
pub(super) fn moved(path: &Path) -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        format!(
            "`{}` was moved, deleted or replaced while this program uses it; put it back, or restart the program",
            path.display()
        ),
    )
}

/// The error of a job that panicked, perhaps because the tables are damaged.
pub(super) fn damage_found(path: &Path) -> StoreError {
    StoreError::new(
        StoreErrorKind::Unknown,
        format!(
            "a write to `{}` panicked, perhaps because another program damaged the tables of taskflow; try again",
            path.display()
        ),
    )
}

/// The error when the disk is full, and the write-ahead log has no room left.
pub(super) fn full(path: &Path) -> StoreError {
    StoreError::new(StoreErrorKind::Full, no_room(path))
}

fn no_room(path: &Path) -> String {
    format!("no room is left on the disk of `{}`; make room, then the same call succeeds", path.display())
}

/// The error when a thread of the store has ended, so that no answer will come.
pub(super) fn stopped(path: &Path) -> StoreError {
    StoreError::new(
        StoreErrorKind::Unknown,
        format!("`{}` stopped answering: the thread that works on it ended", path.display()),
    )
}

/// `SQLITE_BUSY_SNAPSHOT`.
const BUSY_SNAPSHOT: i32 = 517;

fn describe(error: &rusqlite::Error, path: &Path) -> (StoreErrorKind, String) {
    let file = path.display();
    match error.sqlite_error_code() {
        _ if error.sqlite_error().is_some_and(|error| error.extended_code == BUSY_SNAPSHOT) => (
            StoreErrorKind::Unavailable,
            format!(
                "this transaction on `{file}` read before it wrote, and another connection has written since; roll it back, \
                 and begin it with `BEGIN IMMEDIATE`"
            ),
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            StoreErrorKind::Unavailable,
            format!(
                "`{file}` stayed locked by another connection; end the transaction that this or another program keeps open"
            ),
        ),
        Some(ErrorCode::DiskFull) => (StoreErrorKind::Full, no_room(path)),
        Some(ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory) => (
            StoreErrorKind::Unavailable,
            format!("`{file}` could not be read or written; nothing was stored"),
        ),
        Some(ErrorCode::CannotOpen) => (
            StoreErrorKind::Denied,
            format!(
                "`{file}` cannot be opened; check that its directory exists and can be written to, and that this \
                 process may open more files"
            ),
        ),
        Some(
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied,
        ) => (
            StoreErrorKind::Denied,
            format!(
                "`{file}` cannot be written to; check that this process may write it and its directory, and that their file \
                 system is not mounted read-only"
            ),
        ),
        Some(ErrorCode::NotADatabase) => (
            StoreErrorKind::NotAStore,
            format!("`{file}` is not a SQLite database; give the store a file of its own"),
        ),
        Some(ErrorCode::DatabaseCorrupt) => (
            StoreErrorKind::NotAStore,
            format!(
                "`{file}` is damaged; restore it from a backup, or save what `sqlite3 .recover` can read"
            ),
        ),
        _ => (StoreErrorKind::Other, format!("`{file}`: SQLite refused the statement: {error}")),
    }
}
