//! A length of time that passes again and again.

use std::time::{Duration, SystemTime};

use super::rule::{Rule, Timing};
use super::ticks::{Ticks, Upcoming, is_days};
use super::zone;
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
