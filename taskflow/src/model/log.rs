//! What a task said while it ran.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::time;

/// One line a task logged with [`TaskContext::log`](crate::TaskContext::log).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogLine {
    /// When, to the millisecond.
    #[serde(with = "time::rfc3339_serde")]
    pub at: SystemTime,
    /// How grave.
    pub level: LogLevel,
    /// What.
    pub message: String,
    /// By which attempt of the task.
    pub attempt: u32,
}

impl LogLine {
    /// A line said at `at` by attempt number `attempt`.
    #[must_use]
    pub fn new(at: SystemTime, level: LogLevel, message: String, attempt: u32) -> Self {
        Self { at: time::from_micros(time::to_micros(at) / 1000 * 1000), level, message, attempt }
    }
}

/// How grave a [`LogLine`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For whoever looks into one task.
    Debug,
    /// What happened.
    Info,
    /// What may need a look.
    Warn,
    /// What went wrong.
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

    /// The level whose word this is.
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
