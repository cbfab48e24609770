use std::time::{Duration, SystemTime};

/// A small value that a store keeps beside the tasks: a catalogue, a minute of statistics, an entry of the audit log, a
/// session. The store does not know what a document means, so a new kind of them needs no new tables.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Document {
    /// The key, unique among the documents of its kind.
    pub key: String,
    /// A number that each write of this document increases. A document that was deleted and written again may begin
    /// at 1 again.
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
    /// Its key.
    pub key: String,
    /// Its new content; `None` deletes it.
    pub value: Option<Vec<u8>>,
    /// After this time, by the store's clock, the document is gone; `None` keeps it. Each write sets it anew.
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
