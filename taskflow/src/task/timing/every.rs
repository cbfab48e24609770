//! A length of time that passes again and again.

use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;

use super::ticks::{Ticks, Upcoming};
use super::{Rule, Timing, zone};
use crate::model::{Error, limits};

/// A length of time that passes again and again: it ticks at each of its multiples since 1970, the same for all processes,
/// so a restart does not move it.
///
/// ```
/// use std::time::Duration;
/// use taskflow::Every;
///
/// let midnight = Every::new(Duration::from_secs(24 * 3600))?.timezone("Asia/Tokyo")?;
/// assert!(Every::new(Duration::from_secs(3600))?.timezone("Asia/Tokyo").is_err(), "only whole days have a midnight");
/// # drop(midnight);
/// # Ok::<(), taskflow::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Every {
    length: Duration,
    timezone: Option<String>,
}

impl Every {
    /// The shortest length.
    pub const MIN: Duration = limits::INTERVAL_MIN;
    /// The longest length: a century.
    pub const MAX: Duration = limits::LENGTH;

    /// Each multiple of this length.
    ///
    /// # Errors
    /// [`Error::Timing`] for one shorter than [`MIN`](Self::MIN) or longer than [`MAX`](Self::MAX).
    pub fn new(length: Duration) -> Result<Self, Error> {
        let why = match length {
            Duration::ZERO => "it is zero".to_owned(),
            length if length < Self::MIN => format!("it is shorter than {:?}", Self::MIN),
            length if length > Self::MAX => "it is longer than a century".to_owned(),
            _ => return Ok(Self { length, timezone: None }),
        };
        let message = format!("`every` must be a length of time: {why}");
        Err(Error::Timing { text: format!("{length:?}"), message })
    }

    /// Of a length of whole days, the zone whose midnights it counts, by its IANA name.
    ///
    /// # Errors
    /// [`Error::Timing`] for a zone that does not exist, and for a length that is not one of whole days: it has no midnight.
    pub fn timezone(mut self, name: &str) -> Result<Self, Error> {
        let name = zone::check(name)?;
        if !is_days(self.length) {
            let message =
                "`timezone` says where midnight is: with `every` it needs a length of whole days".to_owned();
            return Err(Error::Timing { text: format!("{:?}", self.length), message });
        }
        self.timezone = Some(name);
        Ok(self)
    }

    /// The instants after `after` at which it ticks, to the end of the calendar.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use taskflow::Every;
    ///
    /// let quarters = Every::new(Duration::from_secs(15 * 60))?;
    /// let after = UNIX_EPOCH + Duration::from_secs(20 * 60);
    /// let minutes: Vec<u64> = quarters
    ///     .upcoming(after)
    ///     .take(3)
    ///     .map(|tick| tick.duration_since(UNIX_EPOCH).unwrap().as_secs() / 60)
    ///     .collect();
    /// assert_eq!(minutes, [30, 45, 60]);
    /// # Ok::<(), taskflow::Error>(())
    /// ```
    pub fn upcoming(&self, after: SystemTime) -> Upcoming {
        Upcoming::new(Ticks::at(&self.clone().into()).ok(), after)
    }
}

impl From<Every> for Timing {
    fn from(every: Every) -> Self {
        Self { rule: Rule::Every(every.length), timezone: every.timezone }
    }
}

const DAY: u64 = 24 * 60 * 60;

fn is_days(length: Duration) -> bool {
    length.as_secs().is_multiple_of(DAY) && length.subsec_nanos() == 0
}

/// The ticks of such a length.
///
/// # Errors
/// For a length that the attribute refuses: another version, or other hands, stored it.
pub(super) fn ticks(length: Duration, zone: Option<TimeZone>) -> Result<Ticks, String> {
    match zone {
        _ if length < Every::MIN => Err(format!("its interval is shorter than {:?}", Every::MIN)),
        Some(_) if !is_days(length) => {
            Err("its interval has a time zone and is not of whole days".to_owned())
        }
        Some(zone) => {
            let days = i64::try_from(length.as_secs() / DAY).unwrap_or(i64::MAX);
            Ok(Ticks::Midnights(days, zone))
        }
        None => Ok(Ticks::Every(crate::model::time::micros(length))),
    }
}
