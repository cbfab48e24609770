//! Log lines that a task writes while it runs.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::time;

/// One line that a task logged with [`TaskContext::log`](crate::TaskContext::log).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogLine {
    /// When it was logged, to the millisecond.
    #[serde(with = "time::rfc3339_serde")]
    pub at: SystemTime,
    /// Its severity.
    pub level: LogLevel,
    /// The logged text.
    pub message: String,
    /// The number of the attempt that logged it.
    pub attempt: u32,
}

impl LogLine {
    /// A line that attempt number `attempt` logged at `at`, which is truncated to the millisecond.
    #[must_use]
    pub fn new(at: SystemTime, level: LogLevel, message: String, attempt: u32) -> Self {
        Self { at: time::from_micros(time::to_micros(at) / 1000 * 1000), level, message, attempt }
    }
}

/// The severity of a [`LogLine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Details for debugging one task.
    Debug,
    /// Normal progress.
    Info,
    /// A possible problem.
    Warn,
    /// A failure.
    Error,
}

impl LogLevel {
    /// The word used in JSON and stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// The level with this word; `None` for an unknown word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Debug, Self::Info, Self::Warn, Self::Error].into_iter().find(|level| level.as_str() == word)
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
