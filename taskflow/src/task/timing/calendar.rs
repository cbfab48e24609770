//! A cron expression read by the clock of a zone. The parser's search knows dates and times of day only; what becomes of them
//! where the clock changes is decided here, by the rule of Debian's cron.

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// How many years without a tick end a search: each weekday falls on each date within forty.
const YEARS: i16 = 100;

/// A cron expression and the clock it reads.
#[derive(Clone, Debug)]
pub(crate) struct ZonedCron {
    cron: Box<croner::Cron>,
    is_interval: bool,
    zone: TimeZone,
}

impl ZonedCron {
    /// # Errors
    /// Why the expression cannot be read.
    pub(super) fn new(expression: &str, zone: TimeZone) -> Result<Self, String> {
        let cron = Box::new(parse(expression)?);
        Ok(Self { cron, is_interval: is_interval(expression), zone })
    }

    /// The first tick after this second.
    pub(super) fn after(&self, second: Timestamp) -> Option<Timestamp> {
        let limit = self.zone.to_datetime(second).year().saturating_add(YEARS);
        if self.is_interval { self.next_instant(second, limit) } else { self.next_time_of_day(second, limit) }
    }

    /// The next date and time that fits, whatever the clock does.
    fn next_fit(&self, from: DateTime, inclusive: bool, limit: i16) -> Option<DateTime> {
        let found = self.cron.find_next_occurrence(&from, inclusive).ok()?;
        (found.year() <= limit).then_some(found)
    }

    /// Of an interval, the first instant at which the clock shows a time that fits.
    fn next_instant(&self, second: Timestamp, limit: i16) -> Option<Timestamp> {
        let (mut from, mut inclusive) = (second, false);
        loop {
            // As long as the offset stays, instants and times of day go together.
            let offset = self.zone.to_offset(from);
            let found = self.next_fit(offset.to_datetime(from), inclusive, limit)?;
            let at = offset.to_timestamp(found).ok()?;
            match self.zone.following(from).next() {
                Some(change) if change.timestamp() <= at => (from, inclusive) = (change.timestamp(), true),
                _ => return Some(at),
            }
        }
    }

    /// Of a time of day, the first instant after `second` at which it comes, or is skipped.
    fn next_time_of_day(&self, second: Timestamp, limit: i16) -> Option<Timestamp> {
        let mut from = self.after_a_repetition(second);
        loop {
            let found = self.next_fit(from, false, limit)?;
            let at = match self.zone.to_ambiguous_timestamp(found).offset() {
                AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(found).ok()?,
                AmbiguousOffset::Fold { before, .. } => before.to_timestamp(found).ok()?,
                AmbiguousOffset::Gap { after, .. } => {
                    // Read by the offset that comes, a skipped time lies just before the jump.
                    self.zone.following(after.to_timestamp(found).ok()?).next()?.timestamp()
                }
            };
            if at > second {
                return Some(at);
            }
            from = found;
        }
    }

    /// What the clock shows, or, while it shows a stretch of times for the second time, the last of them: they have ticked.
    fn after_a_repetition(&self, second: Timestamp) -> DateTime {
        let offset = self.zone.to_offset(second);
        let shown = offset.to_datetime(second);
        let ambiguous = self.zone.to_ambiguous_timestamp(shown).offset();
        if let AmbiguousOffset::Fold { before, after } = ambiguous
            && offset == after
            && let Some(change) = self.zone.preceding(second + SignedDuration::from_secs(1)).next()
        {
            return before.to_datetime(change.timestamp() - SignedDuration::from_secs(1));
        }
        shown
    }
}

pub(super) fn parse(expression: &str) -> Result<croner::Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    parser.parse(expression.trim()).map_err(|error| reason(&error.to_string()))
}

/// The parser's words without its headings, in the style of ours.
fn reason(text: &str) -> String {
    let text = text.split_once(": ").map_or(text, |(_, reason)| reason).trim_end_matches('.');
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_lowercase).collect();
    format!("not a cron expression: {first}{}", letters.as_str())
}

/// Whether it follows elapsed time over a change of the clock: its minute or its hour begins with `*`.
fn is_interval(expression: &str) -> bool {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let minute_and_hour = match fields.len() {
        1 => return fields[0] == "@hourly",
        5 => &fields[..2],
        _ => fields.get(1..3).unwrap_or_default(),
    };
    minute_and_hour.iter().any(|field| field.starts_with(['*', '?']))
}
