use std::time::{Duration, SystemTime};

use crate::model::{StoreError, StoreErrorKind};

/// A small value that a store keeps beside the tasks: a catalogue, a minute of statistics, an entry of the audit log, a
/// session. The store does not know what a document means, so a new kind of document needs no new tables.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Document {
    /// The key, unique among the documents of its kind.
    pub key: String,
    /// How often this document has been written, from 1 on. A document that is written again after it was deleted, or
    /// after it expired, begins at 1.
    pub version: u64,
    /// When it was written last, by the store's clock.
    pub written_at: SystemTime,
    /// The content.
    pub value: Vec<u8>,
}

impl Document {
    /// The most bytes of a kind.
    pub const MAX_KIND: usize = 32;
    /// The most bytes of a key.
    pub const MAX_KEY: usize = 512;
    /// The most bytes of a value: 1 MiB.
    pub const MAX_VALUE: usize = 1 << 20;
    /// The most documents of one write, and of one answer.
    pub const MAX_BATCH: usize = 1000;
    /// The most bytes of all values of one write together: 16 MiB.
    pub const MAX_WRITE: usize = 16 << 20;

    /// A document of that key.
    #[must_use]
    pub fn new(key: impl Into<String>, version: u64, written_at: SystemTime, value: Vec<u8>) -> Self {
        Self { key: key.into(), version, written_at, value }
    }
}

/// One write of a document, see [`Store::write_documents`](super::Store::write_documents).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentWrite {
    /// The kind of the document.
    pub kind: &'static str,
    /// Its key. It has no NUL character.
    pub key: String,
    /// Its new content; `None` deletes it.
    pub value: Option<Vec<u8>>,
    /// The document is gone when this time has passed, by the store's clock; `None` keeps it. Each write sets it anew.
    pub expires_in: Option<Duration>,
    /// Writes only if the document has this version; 0: only if there is none. `None` writes always.
    pub expected: Option<u64>,
}

impl DocumentWrite {
    /// A write that creates or replaces a document that never expires.
    #[must_use]
    pub fn put(kind: &'static str, key: impl Into<String>, value: Vec<u8>) -> Self {
        Self { kind, key: key.into(), value: Some(value), expires_in: None, expected: None }
    }

    /// A write that deletes a document.
    #[must_use]
    pub fn delete(kind: &'static str, key: impl Into<String>) -> Self {
        Self { kind, key: key.into(), value: None, expires_in: None, expected: None }
    }

    /// The document is gone after this time.
    #[must_use]
    pub fn expires_in(mut self, length: Duration) -> Self {
        self.expires_in = Some(length);
        self
    }

    /// Writes only if the document has this version; 0: only if there is none.
    #[must_use]
    pub fn expected(mut self, version: u64) -> Self {
        self.expected = Some(version);
        self
    }
}

/// Which documents of one kind to read, see [`Store::documents`](super::Store::documents).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentQuery {
    /// The kind.
    pub kind: &'static str,
    /// The least key, inclusive; empty: from the first. Keys are compared byte by byte.
    pub from: String,
    /// The end of the keys, exclusive; `None`: to the last.
    pub before: Option<String>,
    /// Whether the greatest keys come first.
    pub descending: bool,
    /// The most documents; at most [`Document::MAX_BATCH`].
    pub limit: usize,
}

impl DocumentQuery {
    /// All documents of that kind, least key first, up to [`Document::MAX_BATCH`].
    #[must_use]
    pub fn all(kind: &'static str) -> Self {
        Self { kind, from: String::new(), before: None, descending: false, limit: Document::MAX_BATCH }
    }

    /// The one document of that key.
    #[must_use]
    pub fn one(kind: &'static str, key: impl Into<String>) -> Self {
        let key = key.into();
        Self { kind, before: Some(format!("{key}\0")), from: key, descending: false, limit: 1 }
    }
}

/// Refuses a write that exceeds a limit of [`Document`]. Every store calls it first, so that all refuse the same.
pub(super) fn check_writes(writes: &[DocumentWrite]) -> Result<(), StoreError> {
    if writes.len() > Document::MAX_BATCH {
        let (found, most) = (writes.len(), Document::MAX_BATCH);
        return Err(refused(format!("{found} documents are too many for one write; the most is {most}")));
    }
    let mut bytes = 0;
    for DocumentWrite { kind, key, value, .. } in writes {
        check_kind(kind)?;
        let (length, most) = (key.len(), Document::MAX_KEY);
        if length > most {
            return Err(refused(format!(
                "a key of a `{kind}` document has {length} bytes; the most is {most}"
            )));
        }
        if key.contains('\0') {
            return Err(refused(format!("a key of a `{kind}` document has a NUL character; remove it")));
        }
        let (length, most) = (value.as_ref().map_or(0, Vec::len), Document::MAX_VALUE);
        if length > most {
            return Err(refused(format!(
                "the `{kind}` document `{key}` has {length} bytes; the most is {most}"
            )));
        }
        bytes += length;
    }
    match bytes > Document::MAX_WRITE {
        true => {
            let most = Document::MAX_WRITE;
            Err(refused(format!(
                "the documents of one write have {bytes} bytes; the most is {most}: split it"
            )))
        }
        false => Ok(()),
    }
}

/// Refuses a kind that no document can have.
pub(super) fn check_kind(kind: &str) -> Result<(), StoreError> {
    match (1..=Document::MAX_KIND).contains(&kind.len()) && !kind.contains('\0') {
        true => Ok(()),
        false => {
            let most = Document::MAX_KIND;
            Err(refused(format!(
                "the kind {kind:?} of a document must have 1 to {most} bytes and no NUL character"
            )))
        }
    }
}

/// Versions are smaller than this number, which every store can store exactly.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
pub(super) const VERSIONS: i64 = 1_000_000_000_000_000;

/// Whether a stored number is a version. If it is not, another program has damaged the document.
#[cfg(any(feature = "sqlite", feature = "redis"))]
pub(super) fn is_version(number: i64) -> bool {
    (1..VERSIONS).contains(&number)
}

fn refused(message: String) -> StoreError {
    StoreError::new(StoreErrorKind::Other, message)
}
