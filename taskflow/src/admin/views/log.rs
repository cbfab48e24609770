use std::time::SystemTime;

use serde::Serialize;

use crate::model::{LogLevel, LogLine, time};

/// A line and its number: the first line of a task is 1.
#[derive(Clone, Debug, Serialize)]
pub struct NumberedLine {
    pub(crate) n: usize,
    #[serde(with = "time::rfc3339_serde")]
    pub(crate) at: SystemTime,
    pub(crate) level: LogLevel,
    pub(crate) message: String,
    pub(crate) attempt: u32,
}

impl NumberedLine {
    /// The line with its number. A sealed message is hidden.
    #[must_use]
    pub fn new(n: usize, mut line: LogLine) -> Self {
        line.hide_sealed();
        let LogLine { at, level, message, attempt } = line;
        Self { n, at, level, message, attempt }
    }
}
