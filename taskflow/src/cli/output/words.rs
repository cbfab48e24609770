//! Numbers, lengths, ages and states in words.

use std::time::{Duration, SystemTime};

use taskflow::model::{TaskPhase, TaskSource};
use taskflow::{TaskRecord, TaskStatus};

use super::Color;

/// A number with a comma between thousands.
pub(in crate::cli) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 task`, `2 tasks`.
pub(in crate::cli) fn counted(n: u64, thing: &str) -> String {
    let plural = match thing.strip_suffix('s') {
        _ if n == 1 => thing.to_owned(),
        Some(_) => format!("{thing}es"),
        None => format!("{thing}s"),
    };
    format!("{} {plural}", number(n))
}

/// A length of time with at most two units: `340ms`, `1.2s`, `48s`, `1m52s`, `3h4m`, `2d3h`.
pub(in crate::cli) fn length(length: Duration) -> String {
    let (seconds, millis) = (length.as_secs(), length.as_millis());
    match seconds {
        _ if length == Duration::MAX => "for ever".to_owned(),
        _ if length.is_zero() => "0s".to_owned(),
        0 if millis < 10 => format!("{:.1}ms", length.as_secs_f64() * 1000.0),
        0 => format!("{millis}ms"),
        1..10 if millis.is_multiple_of(1000) => format!("{seconds}s"),
        1..10 => format!("{:.1}s", (millis / 100) as f64 / 10.0),
        10..60 => format!("{seconds}s"),
        60..3_600 => two((seconds / 60, "m"), (seconds % 60, "s")),
        3_600..86_400 => two((seconds / 3_600, "h"), (seconds % 3_600 / 60, "m")),
        _ => two((seconds / 86_400, "d"), (seconds % 86_400 / 3_600, "h")),
    }
}

fn two(big: (u64, &str), small: (u64, &str)) -> String {
    match small.0 {
        0 => format!("{}{}", big.0, big.1),
        n => format!("{}{}{n}{}", big.0, big.1, small.1),
    }
}

/// The time between two instants; zero if `to` is the earlier one, because clocks of machines differ.
pub(in crate::cli) fn between(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

/// An instant as seen from now: `now`, `12s ago`, `3m ago`, `in 2h`.
pub(in crate::cli) fn ago(at: SystemTime, now: SystemTime) -> String {
    match now.duration_since(at) {
        Ok(since) if since.as_secs() == 0 => "now".to_owned(),
        Ok(since) => format!("{} ago", rough(since)),
        Err(ahead) => format!("in {}", rough(ahead.duration() + Duration::from_secs(1))),
    }
}

/// How long ago, in one unit: `12s`, `3m`, `2h`, `5d`.
pub(in crate::cli) fn rough(since: Duration) -> String {
    match since.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// The first line that is not empty.
pub(in crate::cli) fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim()
}

/// RFC 3339, as in JSON.
pub(in crate::cli) fn rfc3339(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at);
    at.map_or_else(|_| "-".to_owned(), |at| format!("{at:.6}"))
}

/// `2026-11-28 16:41:02 UTC`.
pub(in crate::cli) fn instant(at: SystemTime) -> String {
    let text = rfc3339(at);
    match text.split_once('T') {
        Some((date, clock)) => format!("{date} {} UTC", clock.get(..8).unwrap_or(clock)),
        None => text,
    }
}

/// `16:41:28.101`, in UTC.
pub(in crate::cli) fn clock(at: SystemTime) -> String {
    let text = rfc3339(at);
    text.split_once('T').and_then(|(_, clock)| clock.get(..12)).unwrap_or("-").to_owned()
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
    fn lengths_have_at_most_two_units() {
        let millis = [0, 4, 340, 1_000, 1_250, 48_900, 112_000, 120_000, 11_040_000, 183_600_000];
        let shown = millis.map(|n| length(Duration::from_millis(n)));
        assert_eq!(shown, ["0s", "4.0ms", "340ms", "1s", "1.2s", "48s", "1m52s", "2m", "3h4m", "2d3h"]);
        assert_eq!(length(Duration::MAX), "for ever");
    }

    #[test]
    fn instants_are_shown_in_utc() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        assert_eq!(rfc3339(at), "2023-11-14T22:13:20.123456Z");
        assert_eq!(instant(at), "2023-11-14 22:13:20 UTC");
        assert_eq!(clock(at), "22:13:20.123");
        assert_eq!(ago(at, at + Duration::from_secs(200)), "3m ago");
        assert_eq!(ago(at + Duration::from_millis(7_199_500), at), "in 2h");
    }

    #[test]
    fn things_are_counted_in_english() {
        assert_eq!(counted(1, "task"), "1 task");
        assert_eq!(counted(1_482_093, "process"), "1,482,093 processes");
    }
}
