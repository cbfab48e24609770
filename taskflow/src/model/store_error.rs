//! The error of a store.

use std::fmt;
use std::sync::Arc;

/// An error of a store. It is cheap to clone, because every caller that waited for a failed write gets a copy.
#[derive(Clone)]
pub struct StoreError(Arc<StoreErrorInner>);

struct StoreErrorInner {
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    is_missing: bool,
}

/// The kind of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached or is busy. The call stored nothing; the same call may succeed later.
    Unavailable,
    /// The store's answer was lost. The call may or may not have taken effect.
    Unknown,
    /// The store has no space left for its data. The same call may succeed later.
    Full,
    /// A newer version of taskflow wrote the store. Update this program.
    NewerSchema,
    /// The file or database is not a taskflow store, or it is damaged.
    NotAStore,
    /// The store refuses access: a missing permission, a read-only file.
    Denied,
    /// The store does not offer this call.
    Unsupported,
    /// Any other error: a bug in the store.
    Other,
}

impl StoreErrorKind {
    /// The word used in spans.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::Full => "full",
            Self::NewerSchema => "newer_schema",
            Self::NotAStore => "not_a_store",
            Self::Denied => "denied",
            Self::Unsupported => "unsupported",
            Self::Other => "other",
        }
    }
}

impl StoreError {
    /// An error of this kind. The message should name the affected thing and the remedy.
    #[must_use]
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(StoreErrorInner { kind, message: message.into(), source: None, is_missing: false }))
    }

    /// The error for a place where there is no store yet, and where a migration would make one. Its kind is
    /// [`NotAStore`](StoreErrorKind::NotAStore).
    #[must_use]
    pub fn missing(message: impl Into<String>) -> Self {
        let (kind, message) = (StoreErrorKind::NotAStore, message.into());
        Self(Arc::new(StoreErrorInner { kind, message, source: None, is_missing: true }))
    }

    /// Whether the error says that there is no store yet; a [migration](crate::TaskManagerBuilder::migrate) makes one.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.0.is_missing
    }

    /// An error of this kind with a cause. The message must not repeat the text of the cause.
    #[must_use]
    pub fn with_source(
        kind: StoreErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let (message, source) = (message.into(), Some(source.into()));
        Self(Arc::new(StoreErrorInner { kind, message, source, is_missing: false }))
    }

    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed if it is made again later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.0.kind, StoreErrorKind::Unavailable | StoreErrorKind::Unknown | StoreErrorKind::Full)
    }

    /// Whether a single row of the write may have caused the error, rather than a recoverable problem of the whole store.
    pub(crate) fn is_about_one_row(&self) -> bool {
        self.0.kind == StoreErrorKind::Other
    }
}

/// Formatted for people, because a `main` that returns an error prints it with `Debug`.
impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        let source = self.0.source.as_ref().map(ToString::to_string);
        match source.filter(|source| !self.0.message.contains(source)) {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
