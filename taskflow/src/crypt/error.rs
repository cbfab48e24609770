//! Why a key cannot be read, and why a value cannot be opened.

/// Why the text of a [`Key`](super::Key) cannot be read. No message shows the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The environment variable is not set, or is not UTF-8.
    #[error(
        "the environment variable `{variable}` holds no key: set it to a key that `taskflow keygen` printed"
    )]
    NotSet {
        /// The variable.
        variable: String,
    },
    /// The text is not a key.
    #[error(
        "{}this is not a key: a key is `tfk1_`, 8 hexadecimal digits, `_` and 43 characters, as `taskflow keygen` prints it",
        .variable.as_ref().map(|name| format!("`{name}`: ")).unwrap_or_default()
    )]
    NotAKey {
        /// The environment variable with the text, if it came from one.
        variable: Option<String>,
    },
}

/// Why a sealed value cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The key with which the value is sealed is not in this process's key ring.
    #[error("key `{key}` is not in this process's key ring: add it with `Keyring::also`, and retry the task")]
    MissingKey {
        /// The id of the key.
        key: String,
    },
    /// The ring has a key with that id, but the value does not open with it: the value was changed, it belongs to another
    /// task or another field, or it was sealed with another key of the same id.
    #[error(
        "it does not open with key `{key}`: it was changed, it belongs to another task, or it was sealed with another \
         key of that id"
    )]
    Refused {
        /// The id of the key.
        key: String,
    },
    /// The value begins like a sealed one but is not one: it was damaged, or a newer version of taskflow has written it.
    #[error(
        "it begins like a sealed value and is not one: it was damaged, or written by a newer version of taskflow"
    )]
    Damaged,
}

impl OpenError {
    /// The id of the key that is missing, if one is.
    #[must_use]
    pub fn missing_key(&self) -> Option<&str> {
        match self {
            Self::MissingKey { key } => Some(key),
            Self::Refused { .. } | Self::Damaged => None,
        }
    }
}
