//! Lengths of time and instants, as tests write them.

use std::time::{Duration, SystemTime};

use crate::model::time;

/// A length of time: a [`Duration`], or text such as `"90s"`, `"5m"`, `"1h 30m"`, `"365d"`.
///
/// The units are `ms`, `s`, `m`, `h`, `d` and `w`. Text that is not a length panics: it is a mistake in the test.
pub trait Length {
    /// The length.
    fn length(self) -> Duration;
}

impl Length for Duration {
    fn length(self) -> Duration {
        self
    }
}

impl Length for &str {
    #[track_caller]
    fn length(self) -> Duration {
        match parse(self) {
            Some(length) => length,
            None => panic!("`{self}` is not a length of time: write `\"90s\"`, `\"5m\"` or `\"1h 30m\"`"),
        }
    }
}

/// An instant: a [`SystemTime`], or text such as `"2026-03-29T01:30:00Z"` or `"2026-03-29"`.
///
/// Text that is not an instant panics: it is a mistake in the test.
pub trait Moment {
    /// The instant.
    fn moment(self) -> SystemTime;
}

impl Moment for SystemTime {
    fn moment(self) -> SystemTime {
        self
    }
}

impl Moment for &str {
    #[track_caller]
    fn moment(self) -> SystemTime {
        match time::parse(self) {
            Some(moment) => moment,
            None => panic!("`{self}` is not an instant: write `\"2026-03-29T01:30:00Z\"`"),
        }
    }
}

fn parse(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut any = false;
    for word in text.split_whitespace() {
        let mut rest = word;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let number: u64 = rest[..digits].parse().ok()?;
            let after = &rest[digits..];
            let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let unit = match &after[..end] {
                "ms" => Duration::from_millis(1),
                "s" => Duration::from_secs(1),
                "m" => Duration::from_secs(60),
                "h" => Duration::from_secs(3600),
                "d" => Duration::from_secs(24 * 3600),
                "w" => Duration::from_secs(7 * 24 * 3600),
                _ => return None,
            };
            total = total.checked_add(unit.checked_mul(u32::try_from(number).ok()?)?)?;
            rest = &after[end..];
            any = true;
        }
    }
    any.then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_nonsense_is_not() {
        assert_eq!("1h30m".length(), Duration::from_secs(5400));
        assert_eq!("1h 30m".length(), Duration::from_secs(5400));
        assert_eq!("250ms".length(), Duration::from_millis(250));
        for wrong in ["", "5", "m", "5x", "-5s", "99999999999999999999s"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
