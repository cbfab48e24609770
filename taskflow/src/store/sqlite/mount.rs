//! Checks whether a file is itself a mount point.
//!
//! SQLite finds the write-ahead log of a file by the file's name. If only the file is mounted into a container, the
//! container has a separate log beside it. Two containers then write with two logs, and damage the file.

use std::path::Path;

use crate::model::{StoreError, StoreErrorKind};

/// Refuses a file that is a mount point. The path must have no symbolic links.
pub(super) fn check(path: &Path) -> Result<(), StoreError> {
    if !is_mount_point(path) {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(path).display();
    Err(StoreError::new(
        StoreErrorKind::Denied,
        format!(
            "`{}` is a mount point: other containers that mount this file do not see its write-ahead log and will damage it; \
             mount its directory `{directory}` instead",
            path.display()
        ),
    ))
}

#[cfg(target_os = "linux")]
fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;

    let Ok(mounts) = std::fs::read("/proc/self/mountinfo") else { return false };
    // The fifth field is the mount point.
    let mut points =
        mounts.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    points.any(|point| unescaped(point) == path.as_os_str().as_bytes())
}

#[cfg(not(target_os = "linux"))]
fn is_mount_point(_: &Path) -> bool {
    false
}

/// Decodes the field: the kernel writes some bytes as a backslash and three octal digits.
#[cfg(target_os = "linux")]
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal =
            after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}
