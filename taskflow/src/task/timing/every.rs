//! Fixed intervals.

use std::time::{Duration, SystemTime};

use super::rule::{Rule, Timing};
use super::ticks::{Ticks, Upcoming, is_days};
use super::zone;
use crate::model::{Error, limits};

/// A fixed interval. Without a time zone it ticks at each multiple of its length since 1970-01-01T00:00:00Z. The ticks are the same in all processes,
/// so a restart does not move them.
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
    /// The shortest interval: 100 ms.
    pub const MIN: Duration = limits::INTERVAL_MIN;
    /// The longest interval: a century (36,525 days).
    pub const MAX: Duration = limits::LENGTH;

    /// An interval of this length.
    ///
    /// # Errors
    /// [`Error::Timing`] for a length shorter than [`MIN`](Self::MIN) or longer than [`MAX`](Self::MAX).
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

    /// Sets the time zone, by its IANA name, for an interval of N whole days: it then ticks at every Nth midnight of that zone,
    /// counted from 1 January 1970 there.
    ///
    /// # Errors
    /// [`Error::Timing`] for an unknown zone, and for an interval that is not a number of whole days.
    pub fn timezone(mut self, name: &str) -> Result<Self, Error> {
        let name = zone::check(name)?;
        if !is_days(self.length) {
            let message = "`every` with a `timezone` ticks at midnight, so it must be a number of whole days"
                .to_owned();
            return Err(Error::Timing { text: format!("{:?}", self.length), message });
        }
        self.timezone = Some(name);
        Ok(self)
    }

    /// The ticks after `after`, to the end of the calendar.
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
