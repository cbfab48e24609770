//! From SQLite's errors to the store's.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::model::{StoreError, StoreErrorKind};

/// What SQLite said, as the store says it: the file, and what to do about it.
pub(super) fn store_error(error: rusqlite::Error, path: &Path) -> StoreError {
    let (kind, message) = describe(&error, path);
    StoreError::with_source(kind, message, error)
}

/// The same for a commit: where it is not certain that nothing was kept, it says so.
pub(super) fn commit_error(error: rusqlite::Error, path: &Path) -> StoreError {
    if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
        let message = format!(
            "the disk failed while `{}` was being written, and what was written may or may not be kept",
            path.display()
        );
        return StoreError::with_source(StoreErrorKind::Unknown, message, error);
    }
    store_error(error, path)
}

/// The file was moved or deleted while this program had it open.
pub(super) fn moved(path: &Path) -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        format!(
            "`{}` was moved, deleted or replaced while this program uses it; put it back, or restart the program",
            path.display()
        ),
    )
}

/// What is in the tables makes no sense, and could not be put right.
pub(super) fn stumbled(path: &Path) -> StoreError {
    StoreError::new(
        StoreErrorKind::Unknown,
        format!(
            "`{}` has something in its tables that taskflow did not write; it is put right as soon as may be: try again",
            path.display()
        ),
    )
}

/// The disk is full, and so is the log.
pub(super) fn full(path: &Path) -> StoreError {
    StoreError::new(StoreErrorKind::Full, no_room(path))
}

fn no_room(path: &Path) -> String {
    format!("no room is left on the disk of `{}`; make room, and the same call will succeed", path.display())
}

/// A thread of the store is gone, so nobody will answer.
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
                "this transaction on `{file}` read before it wrote, and somebody else has written since; roll it back, \
                 and begin it with `BEGIN IMMEDIATE`"
            ),
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            StoreErrorKind::Unavailable,
            format!("`{file}` stayed locked by another process; end what holds a transaction on it open"),
        ),
        Some(ErrorCode::DiskFull) => (StoreErrorKind::Full, no_room(path)),
        Some(ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory) => (
            StoreErrorKind::Unavailable,
            format!("`{file}` could not be read or written; nothing was stored"),
        ),
        Some(ErrorCode::CannotOpen) => (
            StoreErrorKind::Denied,
            format!("`{file}` cannot be opened; check that its directory exists and can be written to"),
        ),
        Some(
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied,
        ) => (
            StoreErrorKind::Denied,
            format!(
                "`{file}` cannot be written to; give this process the right to write it and its directory"
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
        _ => (StoreErrorKind::Other, format!("`{file}`: SQLite refused what it was asked for: {error}")),
    }
}
