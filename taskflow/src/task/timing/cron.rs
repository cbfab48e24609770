//! Cron expressions: five fields, or six with the seconds first.

use std::time::SystemTime;

use super::calendar::parse;
use super::rule::{Rule, Timing};
use super::ticks::{Ticks, Upcoming};
use super::zone;
use crate::model::Error;
use crate::model::error::closest;

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
///
/// **Where the clock of its zone changes**, an expression of which the minute or the hour begins with `*` is an interval: it
/// ticks whenever the clock shows a time that fits, also when that time comes twice, and not at a time that does not come. Every
/// other expression says a time of day: one that is skipped ticks at the instant at which the clock jumps, and one that comes
/// twice ticks the first time only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    expression: String,
    timezone: Option<String>,
}

impl Cron {
    /// Checks an expression. It reads the clock of UTC if it gets no [`timezone`](Self::timezone).
    ///
    /// # Errors
    /// [`Error::Timing`] for one that cannot be read, and for one that never fires, such as 30 February.
    pub fn parse(expression: &str) -> Result<Self, Error> {
        let refuse = |message| Error::Timing { text: expression.to_owned(), message };
        check(expression).map_err(refuse)?;
        Ok(Self { expression: expression.to_owned(), timezone: None })
    }

    /// The zone whose clock it reads, by its IANA name.
    ///
    /// # Errors
    /// [`Error::Timing`] for a zone that does not exist.
    pub fn timezone(mut self, name: &str) -> Result<Self, Error> {
        self.timezone = Some(zone::check(name)?);
        Ok(self)
    }

    /// The instants after `after` at which it ticks. They end where a hundred years pass without one, or the calendar ends.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use taskflow::Cron;
    ///
    /// let nightly = Cron::parse("30 3 * * *")?.timezone("Europe/Berlin")?;
    /// // Monday, 12 January 2026, 12:00 UTC.
    /// let after = UNIX_EPOCH + Duration::from_secs(1_768_219_200);
    /// let hours: Vec<u64> = nightly
    ///     .upcoming(after)
    ///     .take(3)
    ///     .map(|tick| tick.duration_since(after).unwrap().as_secs() / 3600)
    ///     .collect();
    /// assert_eq!(hours, [14, 38, 62]);
    /// # Ok::<(), taskflow::Error>(())
    /// ```
    pub fn upcoming(&self, after: SystemTime) -> Upcoming {
        Upcoming::new(Ticks::at(&self.clone().into()).ok(), after)
    }
}

impl From<Cron> for Timing {
    fn from(cron: Cron) -> Self {
        Self { rule: Rule::Cron(cron.expression), timezone: cron.timezone }
    }
}

const NICKNAMES: [&str; 6] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];

/// Why this is no expression that fires some day, in the words of the attribute.
fn check(expression: &str) -> Result<(), String> {
    let expression = expression.trim();
    if expression.starts_with('@') {
        if NICKNAMES.contains(&expression) {
            return Ok(());
        }
        let near = closest(&expression.to_lowercase(), NICKNAMES);
        let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        return Err(format!("unknown nickname `{expression}`{hint}"));
    }
    let fields = expression.split_whitespace().count();
    if !(5..=6).contains(&fields) {
        return Err(format!(
            "a cron expression has 5 fields (minute, hour, day, month, weekday) or 6 (the second before them); \
             this one has {fields}"
        ));
    }
    let cron = parse(expression)?;
    // Far from any change of the calendar, with each weekday on each date before long.
    let start = jiff::civil::date(2000, 1, 1).at(0, 0, 0, 0);
    match cron.find_next_occurrence(&start, true) {
        Ok(_) => Ok(()),
        Err(_) => Err("this cron expression never fires: no such date exists".to_owned()),
    }
}
