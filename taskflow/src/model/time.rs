//! Instants: `SystemTime` in the API, microseconds since the epoch in stores, RFC 3339 in JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Microseconds since the epoch, negative before it. Instants more than 290,000 years from the epoch are clamped.
pub(crate) fn to_micros(at: SystemTime) -> i64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => micros(since),
        Err(before) => -micros(before.duration()),
    }
}

/// The instant `micros` microseconds after the epoch, or before it if negative.
pub(crate) fn from_micros(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    let instant =
        if micros < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    instant.unwrap_or(UNIX_EPOCH)
}

/// A duration in microseconds, clamped to `i64::MAX`.
pub(crate) fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

/// The time from `now` to `end`, both in microseconds since the epoch; zero if `end` has passed.
pub(crate) fn left(end: i64, now: i64) -> Duration {
    Duration::from_micros(u64::try_from(end.saturating_sub(now)).unwrap_or(0))
}

/// The system's clock, in microseconds since the epoch. For the SQLite store only; the engine takes its time from `seam`.
#[cfg(feature = "sqlite")]
#[expect(
    clippy::disallowed_methods,
    reason = "a file is shared with other processes, so its clock is the system's"
)]
pub(crate) fn now_micros() -> i64 {
    to_micros(SystemTime::now())
}

/// The instant as RFC 3339 text such as `2026-01-31T12:00:00.000001Z`, clamped to the range of [`Timestamp`].
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let micros = to_micros(at);
    let beyond = if micros < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_microsecond(micros).unwrap_or(beyond).to_string()
}

/// Parses an RFC 3339 text such as `2026-01-31T12:00:00Z`, to the microsecond.
fn from_rfc3339(text: &str) -> Result<SystemTime, jiff::Error> {
    text.parse::<Timestamp>().map(|at| from_micros(at.as_microsecond()))
}

/// The instant, truncated to the microsecond, so that its form in JSON reads back as the same instant.
#[cfg(feature = "api")]
pub(crate) fn whole_micros(at: SystemTime) -> SystemTime {
    from_micros(to_micros(at))
}

/// The instant that a person wrote: RFC 3339 (seconds may be omitted), or a date, which means its first instant in UTC.
#[cfg(any(feature = "api", feature = "testing"))]
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let date = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let is_date = text.len() == 10;
    let at = if is_date { date()?.timestamp() } else { text.parse::<Timestamp>().ok()? };
    Some(from_micros(at.as_microsecond()))
}

/// `#[serde(with = "rfc3339_serde")]` for [`SystemTime`].
pub(crate) mod rfc3339_serde {
    use std::time::SystemTime;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::rfc3339(*at))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        super::from_rfc3339(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// `#[serde(with = "rfc3339_option")]` for `Option<SystemTime>`.
pub(crate) mod rfc3339_option {
    use std::time::SystemTime;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

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

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::from_rfc3339(&text)).transpose().map_err(D::Error::custom)
    }
}

/// The duration of `seconds`. `Duration::MAX`, which means no limit, is read back unchanged.
fn from_seconds(seconds: f64) -> Result<Duration, std::time::TryFromFloatSecsError> {
    if seconds == Duration::MAX.as_secs_f64() {
        return Ok(Duration::MAX);
    }
    Duration::try_from_secs_f64(seconds)
}

/// `#[serde(with = "seconds")]` for [`Duration`]: a JSON number. It is exact to the nanosecond up to 97 days, and to the
/// microsecond up to a century.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(length: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(length.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        super::from_seconds(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// `#[serde(with = "seconds_option")]` for `Option<Duration>`.
pub(crate) mod seconds_option {
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "the shape serde's `with` calls")]
    pub(crate) fn serialize<S: Serializer>(
        length: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match length {
            Some(length) => serializer.serialize_some(&length.as_secs_f64()),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(deserializer)?;
        seconds.map(super::from_seconds).transpose().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_round_trips_to_the_microsecond_on_both_sides_of_the_epoch() {
        for micros in [0, 1, -1, 1_795_000_000_123_456, -62_135_596_800_000_000] {
            assert_eq!(to_micros(from_micros(micros)), micros);
        }
        assert_eq!(rfc3339(from_micros(1_700_000_000_000_001)), "2023-11-14T22:13:20.000001Z");
    }

    #[test]
    fn instants_beyond_the_calendar_are_clamped_and_do_not_panic() {
        assert!(rfc3339(from_micros(i64::MAX)).starts_with("9999-12-30T"));
        assert!(rfc3339(from_micros(i64::MIN)).starts_with("-009999-01-0"));
        assert_eq!(micros(Duration::MAX), i64::MAX);
    }
}
