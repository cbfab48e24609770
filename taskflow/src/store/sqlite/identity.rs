//! The identity of a file, independent of its name.

use std::io;
use std::path::Path;

/// The device and inode number of a file. They show whether another file has taken its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity(#[cfg(unix)] (u64, u64));

impl FileIdentity {
    /// The identity of the file at that path.
    #[cfg(unix)]
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path)?;
        Ok(Self((metadata.dev(), metadata.ino())))
    }

    /// On other systems an open file cannot be moved or deleted.
    #[cfg(not(unix))]
    pub(super) fn at(_: &Path) -> io::Result<Self> {
        Ok(Self())
    }

    /// Whether this file is still at that path, and not another one.
    pub(super) fn is_still_at(self, path: &Path) -> bool {
        Self::at(path).is_ok_and(|now| now == self)
    }
}
