//! Instants: `SystemTime` in the API, microseconds since the epoch in stores, RFC 3339 in JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Microseconds since the epoch. Instants before it, and more than 290,000 years after it, are clamped.
pub(crate) fn to_micros(at: SystemTime) -> i64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => micros(since),
        Err(before) => -micros(before.duration()),
    }
}

/// The instant that many microseconds after the epoch.
pub(crate) fn from_micros(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    let instant =
        if micros < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    instant.unwrap_or(UNIX_EPOCH)
}

/// A length in microseconds, at most the greatest that can be stored.
pub(crate) fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

/// The time from one instant to another, both in microseconds since the epoch; none if that is past.
pub(crate) fn left(end: i64, now: i64) -> Duration {
    Duration::from_micros(u64::try_from(end.saturating_sub(now)).unwrap_or(0))
}

/// This process's clock, in microseconds since the epoch.
pub(crate) fn now_micros() -> i64 {
    to_micros(SystemTime::now())
}

/// `2026-01-31T12:00:00.000001Z`.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let micros = to_micros(at);
    let beyond = if micros < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_microsecond(micros).unwrap_or(beyond).to_string()
}

/// `#[serde(with = "rfc3339_serde")]` for [`SystemTime`].
pub(crate) mod rfc3339_serde {
    use std::time::SystemTime;

    use serde::Serializer;

    pub(crate) fn serialize<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::rfc3339(*at))
    }
}

/// `#[serde(with = "rfc3339_option")]` for `Option<SystemTime>`.
pub(crate) mod rfc3339_option {
    use std::time::SystemTime;

    use serde::Serializer;

    #[expect(clippy::ref_option, reason = "the shape serde's `with` calls")]
    pub(crate) fn serialize<S: Serializer>(
        at: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => serializer.serialize_some(&super::rfc3339(*at)),
            None => serializer.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_comes_back_to_the_microsecond_on_both_sides_of_the_epoch() {
        for micros in [0, 1, -1, 1_795_000_000_123_456, -62_135_596_800_000_000] {
            assert_eq!(to_micros(from_micros(micros)), micros);
        }
        assert_eq!(rfc3339(from_micros(1_700_000_000_000_001)), "2023-11-14T22:13:20.000001Z");
    }

    #[test]
    fn instants_beyond_every_calendar_are_clamped_not_a_panic() {
        assert!(rfc3339(from_micros(i64::MAX)).starts_with("9999-12-30T"));
        assert!(rfc3339(from_micros(i64::MIN)).starts_with("-009999-01-0"));
        assert_eq!(micros(Duration::MAX), i64::MAX);
    }
}
