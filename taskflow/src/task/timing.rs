//! When something is to happen again and again, as a program says it at run time.

use std::time::Duration;

use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::model::Error;

/// A cron expression, checked: minute, hour, day, month, weekday; or six fields with the second first; or a nickname such
/// as `@daily`. What [`#[schedule(cron = "..")]`](macro@crate::schedule) takes at compile time, at run time.
///
/// ```
/// use taskflow::Cron;
///
/// let weekdays = Cron::parse("0 9 * * MON-FRI")?.timezone("Europe/Berlin")?;
/// assert!(Cron::parse("0 25 * * *").is_err());
/// # drop(weekdays);
/// # Ok::<(), taskflow::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    expression: String,
    timezone: Option<String>,
}

impl Cron {
    /// Checks an expression. Its clock is UTC's unless told.
    ///
    /// # Errors
    /// [`Error::Timing`] for one that cannot be read, and for one that never fires, such as 30 February.
    pub fn parse(expression: &str) -> Result<Self, Error> {
        let unreadable = |message| Error::Timing { text: expression.to_owned(), message };
        let cron = parse_cron(expression).map_err(unreadable)?;
        // As the attribute has it: far from any change of the calendar, with each weekday on each date before long.
        let start = jiff::civil::date(2000, 1, 1).at(0, 0, 0, 0);
        if cron.find_next_occurrence(&start, true).is_err() {
            return Err(unreadable("it never fires: no such date exists".to_owned()));
        }
        Ok(Self { expression: expression.to_owned(), timezone: None })
    }

    /// The zone whose clock it reads, by its IANA name.
    ///
    /// # Errors
    /// [`Error::Timing`] for a zone that does not exist.
    pub fn timezone(mut self, name: &str) -> Result<Self, Error> {
        self.timezone = Some(checked_zone(name)?);
        Ok(self)
    }
}

/// A length of time that passes again and again: it ticks at each of its multiples since 1970, the same for all processes,
/// so a restart does not move it.
///
/// ```
/// use std::time::Duration;
/// use taskflow::Every;
///
/// let midnight = Every::new(Duration::from_secs(24 * 3600))?.timezone("Asia/Tokyo")?;
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
    pub const MIN: Duration = Duration::from_millis(100);

    /// Each multiple of this length.
    ///
    /// # Errors
    /// [`Error::Timing`] for one shorter than [`MIN`](Self::MIN).
    pub fn new(length: Duration) -> Result<Self, Error> {
        if length < Self::MIN {
            let message = format!("the shortest interval is {:?}", Self::MIN);
            return Err(Error::Timing { text: format!("{length:?}"), message });
        }
        Ok(Self { length, timezone: None })
    }

    /// Of a length of whole days, the zone whose midnights it counts, by its IANA name.
    ///
    /// # Errors
    /// [`Error::Timing`] for a zone that does not exist.
    pub fn timezone(mut self, name: &str) -> Result<Self, Error> {
        self.timezone = Some(checked_zone(name)?);
        Ok(self)
    }
}

/// When a schedule ticks: a [`Cron`] or an [`Every`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    pub(crate) rule: Rule,
    pub(crate) timezone: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rule {
    Every(Duration),
    Cron(String),
}

impl From<Cron> for Timing {
    fn from(cron: Cron) -> Self {
        Self { rule: Rule::Cron(cron.expression), timezone: cron.timezone }
    }
}

impl From<Every> for Timing {
    fn from(every: Every) -> Self {
        Self { rule: Rule::Every(every.length), timezone: every.timezone }
    }
}

impl std::fmt::Display for Timing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.rule {
            Rule::Every(length) => write!(f, "every {length:?}"),
            Rule::Cron(expression) => f.write_str(expression),
        }
    }
}

/// A cron expression as the attribute takes it, too.
pub(crate) fn parse_cron(expression: &str) -> Result<croner::Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    parser.parse(expression).map_err(|error| error.to_string())
}

/// The zone of that name; UTC without one.
pub(crate) fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    match name {
        Some(name) => TimeZone::get(name).map_err(|error| error.to_string()),
        None => Ok(TimeZone::UTC),
    }
}

fn checked_zone(name: &str) -> Result<String, Error> {
    zone(Some(name)).map_err(|message| Error::Timing { text: name.to_owned(), message })?;
    Ok(name.to_owned())
}
