//! Evaluates a cron expression in a time zone. The cron library only searches dates and times of day. This module decides what
//! happens when the clock of the zone changes, by the rule of Debian's cron.

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// A search ends after this many years without a tick. Within 40 years each weekday falls on each date.
const YEARS: i16 = 100;

/// A cron expression and its time zone.
#[derive(Clone, Debug)]
pub(crate) struct ZonedCron {
    cron: Box<croner::Cron>,
    is_interval: bool,
    zone: TimeZone,
}

impl ZonedCron {
    /// Parses the expression.
    ///
    /// # Errors
    /// When the expression is invalid; the text says why.
    pub(super) fn new(expression: &str, zone: TimeZone) -> Result<Self, String> {
        let cron = Box::new(parse(expression)?);
        Ok(Self { cron, is_interval: is_interval(expression), zone })
    }

    /// The first tick after `second`.
    pub(super) fn after(&self, second: Timestamp) -> Option<Timestamp> {
        let limit = self.zone.to_datetime(second).year().saturating_add(YEARS);
        if self.is_interval { self.next_instant(second, limit) } else { self.next_time_of_day(second, limit) }
    }

    /// The next matching date and time, ignoring changes of the clock.
    fn next_fit(&self, from: DateTime, inclusive: bool, limit: i16) -> Option<DateTime> {
        let found = self.cron.find_next_occurrence(&from, inclusive).ok()?;
        (found.year() <= limit).then_some(found)
    }

    /// The next tick of an interval: the first instant at which the clock shows a matching time.
    fn next_instant(&self, second: Timestamp, limit: i16) -> Option<Timestamp> {
        let (mut from, mut inclusive) = (second, false);
        loop {
            // While the offset stays the same, instants and times of day advance together.
            let offset = self.zone.to_offset(from);
            let found = self.next_fit(offset.to_datetime(from), inclusive, limit)?;
            let at = offset.to_timestamp(found).ok()?;
            match self.zone.following(from).next() {
                Some(change) if change.timestamp() <= at => (from, inclusive) = (change.timestamp(), true),
                _ => return Some(at),
            }
        }
    }

    /// The next tick of a time of day: the first instant after `second` at which the clock shows it or skips it.
    fn next_time_of_day(&self, second: Timestamp, limit: i16) -> Option<Timestamp> {
        let mut from = self.after_a_repetition(second);
        loop {
            let found = self.next_fit(from, false, limit)?;
            let at = match self.zone.to_ambiguous_timestamp(found).offset() {
                AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(found).ok()?,
                AmbiguousOffset::Fold { before, .. } => before.to_timestamp(found).ok()?,
                AmbiguousOffset::Gap { after, .. } => {
                    // With the offset that applies after the jump, a skipped time is an instant just before the jump.
                    self.zone.following(after.to_timestamp(found).ok()?).next()?.timestamp()
                }
            };
            if at > second {
                return Some(at);
            }
            from = found;
        }
    }

    /// The time that the clock shows at `second`. While the clock shows a period for the second time, it is the last time of that
    /// period, because all its times have already ticked.
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

/// The parser's error text without its heading, in the style of our own errors.
fn reason(text: &str) -> String {
    let text = text.split_once(": ").map_or(text, |(_, reason)| reason).trim_end_matches('.');
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_lowercase).collect();
    format!("not a cron expression: {first}{}", letters.as_str())
}

/// Whether the expression is an interval, which follows elapsed time when the clock changes: its minute or hour begins with `*`
/// or `?`, or it is `@hourly`.
fn is_interval(expression: &str) -> bool {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let minute_and_hour = match fields.len() {
        1 => return fields[0] == "@hourly",
        5 => &fields[..2],
        _ => fields.get(1..3).unwrap_or_default(),
    };
    minute_and_hour.iter().any(|field| field.starts_with(['*', '?']))
}
