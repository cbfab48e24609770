//! Cron expressions: five fields, or six with the seconds first.

use std::time::SystemTime;

use super::calendar::parse;
use super::rule::{Rule, Timing};
use super::ticks::{Ticks, Upcoming};
use super::zone;
use crate::model::Error;
use crate::model::spelling::closest;

/// A valid cron expression: five fields (minute, hour, day, month, weekday), six fields with the second first, or a nickname
/// such as `@daily`. It is the run-time form of [`#[schedule(cron = "..")]`](macro@crate::schedule).
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
/// **When the clock of its zone changes**, the expression is treated in one of two ways. If its minute or hour begins with `*`
/// (or `?`), or it is `@hourly`, it is an interval: it ticks whenever the clock shows a matching time, twice if that time comes
/// twice, and not at all if the clock skips it. Every other expression is a time of day: a skipped time ticks at the instant at
/// which the clock jumps, and a repeated time ticks only the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    expression: String,
    timezone: Option<String>,
}

impl Cron {
    /// Parses an expression. Its time zone is UTC unless [`timezone`](Self::timezone) sets another.
    ///
    /// # Errors
    /// [`Error::Timing`] for an invalid expression, and for one that never fires, such as 30 February.
    pub fn parse(expression: &str) -> Result<Self, Error> {
        let refuse = |message| Error::Timing { text: expression.to_owned(), message };
        check(expression).map_err(refuse)?;
        Ok(Self { expression: expression.to_owned(), timezone: None })
    }

    /// Sets the time zone, by its IANA name.
    ///
    /// # Errors
    /// [`Error::Timing`] for a zone that does not exist.
    pub fn timezone(mut self, name: &str) -> Result<Self, Error> {
        self.timezone = Some(zone::check(name)?);
        Ok(self)
    }

    /// The ticks after `after`. The iterator ends when a hundred years pass without a tick, or at the end of the calendar.
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

/// Checks that the expression is valid and fires at some time. The errors have the same texts as those of the attribute.
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
    // A fixed start far from the ends of the calendar. Each weekday falls on each date within 40 years after it.
    let start = jiff::civil::date(2000, 1, 1).at(0, 0, 0, 0);
    match cron.find_next_occurrence(&start, true) {
        Ok(_) => Ok(()),
        Err(_) => Err("this cron expression never fires: no such date exists".to_owned()),
    }
}
