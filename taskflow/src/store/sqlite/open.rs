//! Checks that a file is usable, and opens it as a store.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::error::store_error;
use super::{Synchronous, connection, mount, schema};
use crate::model::{StoreError, StoreErrorKind};
use crate::store::fingerprint;

/// The first bytes of every SQLite file.
const HEADER: &[u8; 16] = b"SQLite format 3\0";

/// Opens the file for writing, brings it up to date, and returns its canonical path. Changes nothing in a file that is not
/// a SQLite database, or that is a newer store. If there is no store of this version, `makes` says whether to create one;
/// if not, this fails.
pub(super) fn open(
    path: &Path,
    synchronous: Synchronous,
    makes: bool,
) -> Result<(Connection, PathBuf), StoreError> {
    if path.as_os_str().is_empty() || path == Path::new(":memory:") {
        return Err(StoreError::new(
            StoreErrorKind::NotAStore,
            format!("`{}` names no file; for a store in memory use `memory:`", path.display()),
        ));
    }
    // An absolute path, because SQLite reads some names as a URI.
    let path = std::path::absolute(path).map_err(|error| denied(path, "cannot be found", error))?;
    check_file(&path)?;
    if !makes && !path.exists() {
        return Err(fingerprint::missing(&format!("`{}`", path.display())));
    }
    if let Ok(path) = fs::canonicalize(&path) {
        mount::check(&path)?;
    }
    let mut connection = connection::open(&path).map_err(|error| store_error(error, &path))?;
    if !schema::is_current(&connection, &path)? && !makes {
        return Err(fingerprint::missing(&format!("`{}`", path.display())));
    }
    let is_logged =
        connection::use_write_ahead_log(&connection).map_err(|error| store_error(error, &path))?;
    if !is_logged {
        return Err(StoreError::new(
            StoreErrorKind::Denied,
            format!(
                "`{}` cannot have a write-ahead log: its file system cannot share memory between processes; \
                 use a local disk",
                path.display()
            ),
        ));
    }
    connection::set_up_to_write(&connection, synchronous).map_err(|error| store_error(error, &path))?;
    schema::migrate(&mut connection, &path)?;
    // All processes must find the same lock files beside the file, whichever name they use for it.
    let path = fs::canonicalize(&path).map_err(|error| denied(&path, "cannot be found", error))?;
    Ok((connection, path))
}

/// Opens a store that cannot be written, and returns its canonical path. `None` if the file cannot be read either, or
/// if it is not a store of this version.
pub(super) fn open_read_only(path: &Path) -> Result<Option<(Connection, PathBuf)>, StoreError> {
    let Ok(path) = fs::canonicalize(path) else { return Ok(None) };
    mount::check(&path)?;
    let Ok(connection) = connection::open_read_only(&path) else { return Ok(None) };
    Ok(schema::is_current(&connection, &path)?.then_some((connection, path)))
}

/// Checks the file without SQLite, which would create a missing file, or would silently open it read-only.
fn check_file(path: &Path) -> Result<(), StoreError> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    if let Some(directory) = directory
        && !directory.is_dir()
    {
        let message = format!(
            "`{}` cannot be made: there is no directory `{}`; create it",
            path.display(),
            directory.display()
        );
        return Err(StoreError::new(StoreErrorKind::Denied, message));
    }
    if path.is_dir() {
        let message = format!("`{}` is a directory; name a file in it", path.display());
        return Err(StoreError::new(StoreErrorKind::NotAStore, message));
    }
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let what = "cannot be written to; check that this process may write it and its directory, that their file system \
                        is not mounted read-only, and that the process may open more files";
            return Err(denied(path, what, error));
        }
    };
    let mut header = Vec::new();
    Read::by_ref(&mut file)
        .take(HEADER.len() as u64)
        .read_to_end(&mut header)
        .map_err(|error| denied(path, "cannot be read", error))?;
    if header.is_empty() || header == HEADER {
        return Ok(());
    }
    Err(StoreError::new(
        StoreErrorKind::NotAStore,
        format!("`{}` is not a SQLite database; give the store a file of its own", path.display()),
    ))
}

fn denied(path: &Path, what: &str, error: io::Error) -> StoreError {
    StoreError::with_source(StoreErrorKind::Denied, format!("`{}` {what}", path.display()), error)
}
