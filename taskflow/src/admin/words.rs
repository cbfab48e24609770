//! Numbers and lengths of time in words, as the dashboard and the command line show them to people.
//!
//! ```
//! use std::time::Duration;
//! use taskflow::admin::words::{self, Words};
//!
//! assert_eq!(words::counted(1_482_093, "task"), "1,482,093 tasks");
//! assert_eq!(Words::PAGE.length(Duration::from_secs(112)), "1 m 52 s");
//! assert_eq!(Words::TERMINAL.length(Duration::from_secs(112)), "1m52s");
//! ```

use std::time::{Duration, SystemTime};

use crate::model::time;

/// A number with a comma between thousands.
#[must_use]
pub fn number(n: u64) -> String {
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

/// `1 task`, `2 tasks`, `2 processes`.
#[must_use]
pub fn counted(n: u64, thing: &str) -> String {
    let ending = match thing.ends_with('s') {
        _ if n == 1 => "",
        true => "es",
        false => "s",
    };
    format!("{} {thing}{ending}", number(n))
}

/// The time between two instants; zero if `to` is the earlier one, because clocks of machines differ.
#[must_use]
pub fn between(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

/// `2026-11-28 16:41:02 UTC`.
#[must_use]
pub fn instant(at: SystemTime) -> String {
    let text = time::rfc3339(at);
    let (date, clock) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} {} UTC", clock.get(..8).unwrap_or(clock))
}

/// `16:41:28.101`, in UTC.
#[must_use]
pub fn clock(at: SystemTime) -> String {
    let text = time::rfc3339(at);
    let clock = text.split_once('T').map_or("", |(_, clock)| clock);
    let millis = time::to_micros(at).rem_euclid(1_000_000) / 1000;
    format!("{}.{millis:03}", clock.get(..8).unwrap_or(clock))
}

/// The first line that is not empty.
#[must_use]
pub fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim()
}

/// How lengths of time are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// What stands between a number and its unit.
    gap: &'static str,
    /// The unit of minutes, where there is no other unit beside it.
    minutes: &'static str,
}

impl Words {
    /// With spaces, for pages: `1 m 52 s`, `3 min ago`.
    pub const PAGE: Self = Self { gap: " ", minutes: "min" };

    /// Without spaces, for columns of a terminal: `1m52s`, `3m ago`.
    pub const TERMINAL: Self = Self { gap: "", minutes: "m" };

    /// A length of time with at most two units: `340ms`, `1.2s`, `48s`, `1m52s`, `3h4m`, `2d3h`.
    #[must_use]
    pub fn length(self, length: Duration) -> String {
        let (seconds, millis) = (length.as_secs(), length.as_millis());
        let one = |number: String, unit: &str| format!("{number}{}{unit}", self.gap);
        match seconds {
            _ if length == Duration::MAX => "for ever".to_owned(),
            _ if length.is_zero() => one("0".to_owned(), "s"),
            0 if millis < 10 => one(format!("{:.1}", length.as_secs_f64() * 1000.0), "ms"),
            0 => one(millis.to_string(), "ms"),
            1..10 if millis.is_multiple_of(1000) => one(seconds.to_string(), "s"),
            1..10 => one(format!("{:.1}", (millis / 100) as f64 / 10.0), "s"),
            10..60 => one(seconds.to_string(), "s"),
            60..3_600 => self.two((seconds / 60, "m"), (seconds % 60, "s")),
            3_600..86_400 => self.two((seconds / 3_600, "h"), (seconds % 3_600 / 60, "m")),
            _ => self.two((seconds / 86_400, "d"), (seconds % 86_400 / 3_600, "h")),
        }
    }

    fn two(self, big: (u64, &str), small: (u64, &str)) -> String {
        let gap = self.gap;
        let text = format!("{}{gap}{}", number(big.0), big.1);
        match small.0 {
            0 => text,
            n => format!("{text}{gap}{n}{gap}{}", small.1),
        }
    }

    /// An instant as seen from now: `now`, `12s ago`, `3m ago`, `in 2h`.
    #[must_use]
    pub fn ago(self, at: SystemTime, now: SystemTime) -> String {
        match now.duration_since(at) {
            Ok(since) if since.as_secs() == 0 => "now".to_owned(),
            Ok(since) => format!("{} ago", self.rough(since)),
            Err(ahead) => {
                format!("in {}", self.rough(ahead.duration().saturating_add(Duration::from_secs(1))))
            }
        }
    }

    /// A length in one unit: `12s`, `3m`, `2h`, `5d`.
    #[must_use]
    pub fn rough(self, length: Duration) -> String {
        let (n, unit) = match length.as_secs() {
            seconds @ 0..60 => (seconds, "s"),
            seconds @ 60..3_600 => (seconds / 60, self.minutes),
            seconds @ 3_600..172_800 => (seconds / 3_600, "h"),
            seconds => (seconds / 86_400, "d"),
        };
        format!("{}{}{unit}", number(n), self.gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas_between_thousands() {
        let shown = [0, 999, 1_000, 12_345, 1_482_093, u64::MAX].map(number);
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,482,093", "18,446,744,073,709,551,615"]);
        assert_eq!(counted(1, "task"), "1 task");
        assert_eq!(counted(1_482_093, "process"), "1,482,093 processes");
    }

    #[test]
    fn lengths_have_at_most_two_units() {
        let millis = [0, 4, 340, 1_000, 1_250, 48_900, 112_000, 120_000, 11_040_000, 183_600_000];
        let shown = |words: Words| millis.map(|n| words.length(Duration::from_millis(n)));
        let page =
            ["0 s", "4.0 ms", "340 ms", "1 s", "1.2 s", "48 s", "1 m 52 s", "2 m", "3 h 4 m", "2 d 3 h"];
        assert_eq!(shown(Words::PAGE), page);
        assert_eq!(shown(Words::TERMINAL), page.map(|text| text.replace(' ', "")));
        assert_eq!(Words::TERMINAL.length(Duration::MAX), "for ever");
    }

    #[test]
    fn ages_reach_into_the_past_and_the_future() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let past = [0, 12, 180, 7_200, 500_000].map(|s| Words::PAGE.ago(now - Duration::from_secs(s), now));
        assert_eq!(past, ["now", "12 s ago", "3 min ago", "2 h ago", "5 d ago"]);
        assert_eq!(Words::TERMINAL.ago(now - Duration::from_secs(200), now), "3m ago");
        assert_eq!(Words::TERMINAL.ago(now + Duration::from_millis(7_199_500), now), "in 2h");
        assert_eq!(between(now, now - Duration::from_secs(5)), Duration::ZERO);
    }

    #[test]
    fn instants_are_shown_in_utc() {
        let at = time::from_micros(1_700_000_000_123_456);
        assert_eq!(instant(at), "2023-11-14 22:13:20 UTC");
        assert_eq!(clock(at), "22:13:20.123");
        assert_eq!(clock(time::from_micros(1_700_000_000_000_000)), "22:13:20.000");
    }
}
