//! States in words and colours; numbers and lengths of time are those of `admin::words`.

use std::time::{Duration, SystemTime};

use taskflow::admin::words::Words;
pub(in crate::cli) use taskflow::admin::words::{between, clock, counted, first_line, instant, number};
use taskflow::model::{TaskPhase, TaskSource};
use taskflow::{TaskRecord, TaskStatus};

use super::Color;

/// A length of time with at most two units: `1m52s`.
pub(in crate::cli) fn length(length: Duration) -> String {
    Words::TERMINAL.length(length)
}

/// An instant as seen from now: `3m ago`.
pub(in crate::cli) fn ago(at: SystemTime, now: SystemTime) -> String {
    Words::TERMINAL.ago(at, now)
}

/// How long ago, in one unit: `5d`.
pub(in crate::cli) fn rough(since: Duration) -> String {
    Words::TERMINAL.rough(since)
}

/// RFC 3339, as in JSON.
pub(in crate::cli) fn rfc3339(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at);
    at.map_or_else(|_| "-".to_owned(), |at| format!("{at:.6}"))
}

/// The state of a task in one word, and its colour.
pub(in crate::cli) fn state(record: &TaskRecord) -> (&'static str, Color) {
    match (record.status, record.phase()) {
        (TaskStatus::Running, _) if record.cancel_requested => ("stopping", Color::Magenta),
        (_, TaskPhase::Waiting) => ("waiting", Color::Plain),
        (_, TaskPhase::Scheduled) => ("scheduled", Color::Dim),
        (_, TaskPhase::Retrying) => ("retrying", Color::Yellow),
        (_, TaskPhase::Overrunning) => ("overrunning", Color::Magenta),
        (status, _) => (status.as_str(), color(status)),
    }
}

/// The colour of a status.
pub(in crate::cli) fn color(status: TaskStatus) -> Color {
    match status {
        TaskStatus::Pending => Color::Plain,
        TaskStatus::Running => Color::Blue,
        TaskStatus::Success => Color::Green,
        TaskStatus::Failed | TaskStatus::Rejected => Color::Red,
        TaskStatus::Interrupted => Color::Magenta,
        TaskStatus::Cancelled => Color::Dim,
        _ => Color::Plain,
    }
}

/// How a task came to be.
pub(in crate::cli) fn source(source: TaskSource) -> &'static str {
    match source {
        TaskSource::Request => "a web request",
        TaskSource::Schedule => "its schedule",
        _ => "the program",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_have_six_digits() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(rfc3339(at), "2023-11-14T22:13:20.000000Z");
    }
}
