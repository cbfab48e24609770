//! States, sizes and triggers in words. Numbers and lengths of time come from [`words`].

use std::time::{Duration, SystemTime};

use askama::Template;
use askama::filters::HtmlSafe;

use crate::admin::words::{self, Words};
pub(crate) use crate::admin::words::{between, clock, counted, instant, number};
use crate::model::{AttemptOutcome, TaskPhase, TaskRecord, TaskStatus, time};

/// A state: the class of its colour and the word beside the dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Template)]
#[template(ext = "html", source = r#"<span class="st {{ class }}">{{ word }}</span>"#)]
pub(crate) struct Mark {
    pub(crate) class: &'static str,
    pub(crate) word: &'static str,
}

const fn mark(class: &'static str, word: &'static str) -> Mark {
    Mark { class, word }
}

/// The state of a task at `now`.
pub(crate) fn state(record: &TaskRecord, now: SystemTime) -> Mark {
    match (record.status, record.phase_at(now)) {
        (TaskStatus::Running, _) if record.cancel_requested => mark("interrupted", "Stopping"),
        (_, TaskPhase::Waiting) => mark("pending", "Waiting"),
        (_, TaskPhase::Scheduled) => mark("scheduled", "Scheduled"),
        (_, TaskPhase::Retrying) => mark("retrying", "Retrying"),
        (_, TaskPhase::Overrunning) => mark("interrupted", "Overrunning"),
        (status, _) => status_mark(status),
    }
}

/// A status without its phase.
pub(crate) fn status_mark(status: TaskStatus) -> Mark {
    match status {
        TaskStatus::Pending => mark("pending", "Pending"),
        TaskStatus::Running => mark("running", "Running"),
        TaskStatus::Success => mark("success", "Succeeded"),
        TaskStatus::Failed => mark("failed", "Failed"),
        TaskStatus::Interrupted => mark("interrupted", "Interrupted"),
        TaskStatus::Cancelled => mark("cancelled", "Cancelled"),
        TaskStatus::Rejected => mark("rejected", "Rejected"),
    }
}

/// The outcome of an attempt.
pub(crate) fn outcome(outcome: AttemptOutcome) -> Mark {
    match outcome {
        AttemptOutcome::Running => mark("running", "running"),
        AttemptOutcome::Success => mark("success", "succeeded"),
        AttemptOutcome::Failed => mark("failed", "failed"),
        AttemptOutcome::Panicked => mark("failed", "panicked"),
        AttemptOutcome::TimedOut => mark("failed", "timed out"),
        AttemptOutcome::Lost => mark("interrupted", "worker lost"),
        AttemptOutcome::HandedBack => mark("cancelled", "handed back"),
        AttemptOutcome::Interrupted => mark("interrupted", "interrupted"),
        AttemptOutcome::Cancelled => mark("cancelled", "cancelled"),
        AttemptOutcome::Snoozed => mark("scheduled", "snoozed"),
    }
}

/// A length of time with at most two units: `1 m 52 s`.
pub(crate) fn length(length: Duration) -> String {
    Words::PAGE.length(length)
}

/// An instant as seen from now: `3 min ago`.
pub(crate) fn ago(at: SystemTime, now: SystemTime) -> String {
    Words::PAGE.ago(at, now)
}

// The templates escape their own fields.
impl HtmlSafe for Mark {}
impl HtmlSafe for When {}

/// An instant on a page: as an age in words, and exact for machines and in the tooltip.
#[derive(Clone, Debug, PartialEq, Eq, Template)]
#[template(
    ext = "html",
    source = r#"<time datetime="{{ exact }}" title="{{ title }}" data-ago>{{ ago }}</time>"#
)]
pub(crate) struct When {
    /// `12 s ago`.
    pub(crate) ago: String,
    /// RFC 3339.
    pub(crate) exact: String,
    /// `2026-11-28 16:41:02 UTC`.
    pub(crate) title: String,
}

pub(crate) fn when(at: SystemTime, now: SystemTime) -> When {
    When { ago: ago(at, now), exact: time::rfc3339(at), title: instant(at) }
}

/// A size: `812 bytes`, `64 KiB`, `1.4 MiB`.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => counted(bytes as u64, "byte"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// The first line of a text, at most `max` characters of it.
pub(crate) fn first_line(text: &str, max: usize) -> String {
    let line = words::first_line(text);
    match line.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// `50 %`, one decimal below 10.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    if percent > 0.0 && percent < 10.0 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// A cron expression in plain words: `every 5 minutes`, `every day at 08:00`. `None` for one without a short sentence, and for an
/// interval (`every 30s`), which is plain already.
pub(crate) fn trigger(trigger: &str) -> Option<String> {
    let fields: Vec<_> = trigger.split_ascii_whitespace().collect();
    // A cron expression may begin with seconds.
    let [minute, hour, day, month, weekday] = fields[..] else {
        let [second, rest @ ..] = &fields[..] else { return None };
        return if *second == "0" && rest.len() == 5 { self::trigger(&rest.join(" ")) } else { None };
    };
    if month != "*" {
        return None;
    }
    let at = || Some(format!("{:02}:{:02}", plain(hour, 23)?, plain(minute, 59)?));
    match (minute, hour, day, weekday) {
        ("*", "*", "*", "*") => Some("every minute".to_owned()),
        (_, "*", "*", "*") => match minute.strip_prefix("*/") {
            Some(step) => Some(format!("every {} minutes", plain(step, 59)?)),
            None => Some(format!("every hour at minute {}", plain(minute, 59)?)),
        },
        (_, _, "*", "*") => match hour.strip_prefix("*/") {
            Some(step) => Some(format!("every {} hours at minute {}", plain(step, 23)?, plain(minute, 59)?)),
            None => Some(format!("every day at {}", at()?)),
        },
        (_, _, "*", "1-5" | "MON-FRI") => Some(format!("every weekday at {}", at()?)),
        (_, _, "*", weekday) => Some(format!("every {} at {}", name_of(weekday)?, at()?)),
        (_, _, day, "*") => Some(format!("on day {} of each month at {}", plain(day, 31)?, at()?)),
        _ => None,
    }
}

fn plain(field: &str, max: u8) -> Option<u8> {
    field.parse().ok().filter(|n| *n <= max)
}

fn name_of(weekday: &str) -> Option<&'static str> {
    const DAYS: [(&str, &str); 7] = [
        ("SUN", "Sunday"),
        ("MON", "Monday"),
        ("TUE", "Tuesday"),
        ("WED", "Wednesday"),
        ("THU", "Thursday"),
        ("FRI", "Friday"),
        ("SAT", "Saturday"),
    ];
    let by_number = weekday.parse::<usize>().ok().filter(|n| *n <= 7).map(|n| DAYS[n % 7].1);
    by_number
        .or_else(|| DAYS.iter().find(|(short, _)| short.eq_ignore_ascii_case(weekday)).map(|(_, day)| *day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_triggers_are_plain_sentences() {
        for (cron, sentence) in [
            ("0 8 * * *", "every day at 08:00"),
            ("0 0 8 * * *", "every day at 08:00"),
            ("*/5 * * * *", "every 5 minutes"),
            ("30 * * * *", "every hour at minute 30"),
            ("15 */6 * * *", "every 6 hours at minute 15"),
            ("0 9 * * 1", "every Monday at 09:00"),
            ("0 9 * * 7", "every Sunday at 09:00"),
            ("0 9 * * MON-FRI", "every weekday at 09:00"),
            ("30 6 1 * *", "on day 1 of each month at 06:30"),
            ("* * * * *", "every minute"),
        ] {
            assert_eq!(trigger(cron).as_deref(), Some(sentence), "{cron}");
        }
        for none in
            ["", "every 30s", "0 8 * 2 *", "0 8,9 * * *", "0 8 1-100000000 * *", "99 99 * * *", "1 2 3"]
        {
            assert_eq!(trigger(none), None, "{none}");
        }
    }

    #[test]
    fn a_first_line_is_cut_between_characters() {
        assert_eq!(first_line("\n  one\ntwo", 10), "one");
        assert_eq!(first_line("ööööö", 3), "ööö…");
        assert_eq!(first_line("", 3), "");
    }
}
