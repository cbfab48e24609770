//! Parses durations: `"1h 30m"`, or a number of seconds.

use std::time::Duration;

use super::limits;

const UNITS: &[(&[&str], u128)] = &[
    (&["ms", "millis", "millisecond", "milliseconds"], 1_000_000),
    (&["s", "sec", "secs", "second", "seconds"], 1_000_000_000),
    (&["m", "min", "mins", "minute", "minutes"], 60 * 1_000_000_000),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600 * 1_000_000_000),
    (&["d", "day", "days"], 86_400 * 1_000_000_000),
    (&["w", "week", "weeks"], 7 * 86_400 * 1_000_000_000),
];

const SECOND: u128 = 1_000_000_000;

/// Parses `1h 30m`, `250ms` or `1.5 hours`: numbers with units, each unit at most once.
pub(super) fn from_text(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("it is empty".to_owned());
    }
    let (mut total, mut seen) = (0_u128, Vec::new());
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        if number.is_empty() {
            return Err(format!("expected a number at `{rest}`"));
        }
        let (name, after) = split(after.trim_start(), char::is_alphabetic);
        if name.is_empty() {
            return Err(format!("`{number}` has no unit: write `{number}s` for seconds"));
        }
        let (names, unit) = UNITS
            .iter()
            .find(|(names, _)| names.contains(&name))
            .ok_or_else(|| format!("unknown unit `{name}`: there are `ms`, `s`, `m`, `h`, `d`, `w`"))?;
        if seen.contains(&names[0]) {
            return Err(format!("it has `{}` twice", names[0]));
        }
        seen.push(names[0]);
        total = total.saturating_add(nanos(number, *unit)?);
        rest = after.trim_start();
    }
    to_duration(total)
}

/// Parses a literal number of seconds.
pub(super) fn from_seconds(digits: &str) -> Result<Duration, String> {
    to_duration(nanos(&digits.replace('_', ""), SECOND)?)
}

fn split(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !wanted(c)).unwrap_or(text.len()))
}

/// The nanoseconds of `number` units, computed exactly, without floats.
fn nanos(number: &str, unit: u128) -> Result<u128, String> {
    let not_a_number = || format!("`{number}` is not a number");
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 {
        return Err(not_a_number());
    }
    let mut nanos = whole.parse::<u64>().map_err(|_| not_a_number())? as u128 * unit;
    if !fraction.is_empty() {
        let digits = fraction.parse::<u64>().map_err(|_| not_a_number())?;
        nanos += u128::from(digits) * unit / 10_u128.pow(fraction.len() as u32);
    }
    Ok(nanos)
}

fn to_duration(nanos: u128) -> Result<Duration, String> {
    if nanos > limits::LENGTH.as_nanos() {
        return Err("it is longer than a century".to_owned());
    }
    let seconds = u64::try_from(nanos / SECOND).map_err(|error| error.to_string())?;
    Ok(Duration::new(seconds, (nanos % SECOND) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_numbers_with_units() {
        for (text, millis) in [
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1s", 1_000),
            ("1.5s", 1_500),
            ("0.25 hours", 900_000),
            (" 2 days ", 172_800_000),
            ("1w", 604_800_000),
            ("1 minute 1 second", 61_000),
            ("0s", 0),
        ] {
            assert_eq!(from_text(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn seconds_are_exact() {
        assert_eq!(from_seconds("0.3"), Ok(Duration::from_millis(300)));
        assert_eq!(from_seconds("1_000"), Ok(Duration::from_secs(1_000)));
        assert_eq!(from_seconds("2."), Ok(Duration::from_secs(2)));
        assert_eq!(from_seconds("0.000000001"), Ok(Duration::from_nanos(1)));
    }

    #[test]
    fn a_wrong_length_says_what_is_wrong() {
        for (text, why) in [
            ("", "empty"),
            ("90", "no unit"),
            ("1x", "unknown unit `x`"),
            ("1M", "unknown unit `M`"),
            ("1h 2h", "twice"),
            ("1h 30min 2m", "`m` twice"),
            ("-1s", "expected a number"),
            ("h", "expected a number"),
            ("1..5s", "not a number"),
            (".5s", "not a number"),
            ("1h,30m", "expected a number at `,30m`"),
            ("200000w", "longer than a century"),
            ("99999999999999999999s", "not a number"),
            ("18446744073709551615w", "longer than a century"),
        ] {
            let error = from_text(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(from_seconds("1e3").is_err());
    }
}
