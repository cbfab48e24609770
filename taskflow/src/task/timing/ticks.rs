//! Computes the ticks of a schedule, with pure functions.

use std::iter::FusedIterator;
use std::time::{Duration, SystemTime};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

use super::calendar::ZonedCron;
use super::rule::{Rule, Timing};
use super::zone;
use crate::model::{limits, time};

/// The rule of a schedule, prepared to compute its ticks.
#[derive(Clone, Debug)]
pub(crate) enum Ticks {
    /// The multiples of this many microseconds since the epoch: the same ticks in all processes.
    Every(i64),
    /// Midnights of a zone, this many days apart, counted from 1 January 1970 in that zone.
    Midnights(i64, TimeZone),
    /// A cron expression in a time zone.
    Cron(ZonedCron),
}

impl Ticks {
    /// Prepares a stored or declared rule.
    ///
    /// # Errors
    /// For a rule that [`Cron`](super::Cron) and [`Every`](super::Every) refuse. Another program or version may have stored it.
    pub(crate) fn at(timing: &Timing) -> Result<Self, String> {
        let zone = zone::find(timing.timezone.as_deref())?;
        match &timing.rule {
            Rule::Every(length) => Self::every(*length, timing.timezone.as_ref().map(|_| zone)),
            Rule::Cron(expression) => ZonedCron::new(expression, zone).map(Self::Cron),
        }
    }

    fn every(length: Duration, zone: Option<TimeZone>) -> Result<Self, String> {
        match zone {
            _ if length < limits::INTERVAL_MIN => {
                Err(format!("its interval is shorter than {:?}", limits::INTERVAL_MIN))
            }
            Some(_) if !is_days(length) => {
                Err("its interval has a time zone and is not a number of whole days".to_owned())
            }
            Some(zone) => {
                let days = i64::try_from(length.as_secs() / DAY).unwrap_or(i64::MAX);
                Ok(Self::Midnights(days, zone))
            }
            None => Ok(Self::Every(time::micros(length))),
        }
    }

    /// The most ticks that [`count`](Self::count) counts for a cron expression or for midnights of a zone.
    pub(crate) const COUNTED: usize = 10_000;

    /// The first tick after `at`; `None` if there is none before the end of the calendar.
    pub(crate) fn after(&self, at: SystemTime) -> Option<SystemTime> {
        match self {
            Self::Every(micros) => {
                let next = time::to_micros(at).div_euclid(*micros).checked_add(1)?.checked_mul(*micros)?;
                Some(time::from_micros(next))
            }
            Self::Midnights(days, zone) => {
                let zoned = zoned(at, zone)?;
                let today = days_since_epoch(zoned.date());
                let mut day = today.div_euclid(*days) * days;
                loop {
                    let midnight = midnight(day, zone)?;
                    if midnight > at {
                        return Some(midnight);
                    }
                    day = day.checked_add(*days)?;
                }
            }
            Self::Cron(cron) => {
                let second = time::to_micros(at).div_euclid(1_000_000);
                let tick = cron.after(Timestamp::from_second(second).ok()?)?;
                Some(time::from_micros(tick.as_microsecond()))
            }
        }
    }

    /// How far a recorded tick may be ahead of the clock: up to the tick after the next one, and at least a minute, because
    /// clocks differ between machines and are sometimes set back a little.
    pub(crate) fn ahead(&self, now: SystemTime) -> Duration {
        let second = self.after(now).and_then(|next| self.after(next));
        let length = second.and_then(|second| second.duration_since(now).ok());
        length.map_or(Duration::MAX, |length| length.max(Duration::from_secs(60)))
    }

    /// Whether a recorded tick is plausible. A tick further ahead than [`ahead`](Self::ahead) came from a wrong clock.
    pub(crate) fn believes(&self, tick: SystemTime, now: SystemTime) -> bool {
        tick.duration_since(now).map_or(true, |ahead| ahead <= self.ahead(now))
    }

    /// The number of ticks after `after` and up to `until`. For a cron expression and for midnights it is at most
    /// [`COUNTED`](Self::COUNTED).
    pub(crate) fn count(&self, after: SystemTime, until: SystemTime) -> u64 {
        match self {
            Self::Every(micros) => {
                let number = |at| time::to_micros(at).div_euclid(*micros);
                u64::try_from(number(until).saturating_sub(number(after))).unwrap_or(0)
            }
            Self::Midnights(..) | Self::Cron(_) => {
                let ticks = Upcoming::new(Some(self.clone()), after);
                ticks.take(Self::COUNTED).take_while(|tick| *tick <= until).count() as u64
            }
        }
    }

    /// The last `most` ticks after `after` and up to `until`, in order.
    pub(crate) fn between(&self, after: SystemTime, until: SystemTime, most: usize) -> Vec<SystemTime> {
        // Ticks are computed forward only, so that every starting point gives the same ticks across a change of the clock. The
        // window grows only as far back as needed, so that a long downtime costs nothing.
        let mut window = Duration::from_secs(60);
        loop {
            let begin = until.checked_sub(window).map_or(after, |begin| begin.max(after));
            let next = |tick: &SystemTime| self.after(*tick).filter(|next| next > tick);
            let forward = std::iter::successors(self.after(begin), next);
            let mut ticks: Vec<_> = forward.take_while(|tick| *tick <= until).collect();
            if ticks.len() >= most || begin == after {
                ticks.drain(..ticks.len().saturating_sub(most));
                return ticks;
            }
            window = window.saturating_mul(60);
        }
    }
}

/// An iterator over the ticks of a [`Cron`](super::Cron) or an [`Every`](super::Every), in order.
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Upcoming {
    ticks: Option<Ticks>,
    last: SystemTime,
}

impl Upcoming {
    pub(super) fn new(ticks: Option<Ticks>, after: SystemTime) -> Self {
        Self { ticks, last: after }
    }
}

impl Iterator for Upcoming {
    type Item = SystemTime;

    fn next(&mut self) -> Option<SystemTime> {
        let next = self.ticks.as_ref()?.after(self.last).filter(|next| *next > self.last);
        match next {
            Some(next) => self.last = next,
            None => self.ticks = None,
        }
        next
    }
}

impl FusedIterator for Upcoming {}

const DAY: u64 = 24 * 60 * 60;

/// Whether a length is a number of whole days.
pub(super) fn is_days(length: Duration) -> bool {
    length.as_secs().is_multiple_of(DAY) && length.subsec_nanos() == 0
}

fn zoned(at: SystemTime, zone: &TimeZone) -> Option<Zoned> {
    let timestamp = Timestamp::from_microsecond(time::to_micros(at)).ok()?;
    Some(timestamp.to_zoned(zone.clone()))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as the last step of a conversion that owns the value"
)]
fn instant(zoned: Zoned) -> SystemTime {
    time::from_micros(zoned.timestamp().as_microsecond())
}

const EPOCH: Date = Date::constant(1970, 1, 1);

fn days_since_epoch(date: Date) -> i64 {
    EPOCH.until(date).map_or(0, |span| i64::from(span.get_days()))
}

/// The start of a day in a zone. It is not 00:00 if the clock skips that time.
fn midnight(day: i64, zone: &TimeZone) -> Option<SystemTime> {
    // A day beyond the calendar gives `None`.
    let date = EPOCH.checked_add(Span::new().try_days(day).ok()?).ok()?;
    let start = date.to_zoned(zone.clone()).ok()?.start_of_day().ok()?;
    Some(instant(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{ScheduleSpec, Trigger};

    fn at(text: &str) -> SystemTime {
        time::from_micros(text.parse::<Timestamp>().unwrap().as_microsecond())
    }

    fn next(spec: ScheduleSpec, from: &str, count: usize) -> Vec<String> {
        let ticks = Ticks::at(&Timing::from(&spec)).unwrap();
        let mut from = at(from);
        let forward: Vec<SystemTime> = (0..count)
            .map(|_| {
                from = ticks.after(from).unwrap();
                from
            })
            .collect();
        let last = *forward.last().unwrap();
        let before = forward[0] - Duration::from_micros(1);
        assert_eq!(ticks.between(before, last, count), forward, "`between` finds the same ticks");
        assert_eq!(ticks.between(before, last, 1), [last]);
        forward.into_iter().map(time::rfc3339).collect()
    }

    fn cron(expression: &'static str) -> ScheduleSpec {
        ScheduleSpec::new(Trigger::Cron(expression))
    }

    fn every(seconds: u64) -> ScheduleSpec {
        ScheduleSpec::new(Trigger::Every(Duration::from_secs(seconds)))
    }

    #[test]
    fn an_interval_ticks_at_the_same_instants_from_any_start() {
        assert_eq!(
            next(every(30), "2026-01-01T00:00:29.9Z", 2),
            ["2026-01-01T00:00:30Z", "2026-01-01T00:01:00Z"]
        );
        assert_eq!(next(every(30), "2026-01-01T00:00:30Z", 1), ["2026-01-01T00:01:00Z"]);
    }

    #[test]
    fn whole_days_in_a_zone_are_its_midnights_over_both_changes_of_the_clock() {
        let berlin = every(24 * 3600).timezone("Europe/Berlin");
        let spring = ["2026-03-27T23:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"];
        assert_eq!(next(berlin, "2026-03-27T12:00:00Z", 3), spring);
        let autumn = ["2026-10-23T22:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"];
        assert_eq!(next(berlin, "2026-10-23T12:00:00Z", 3), autumn);
    }

    #[test]
    fn a_time_the_clock_skips_or_repeats_ticks_once_that_day() {
        let berlin = cron("30 2 * * *").timezone("Europe/Berlin");
        let spring = next(berlin, "2026-03-28T12:00:00Z", 2);
        // 02:30 does not exist on the 29th. The schedule ticks when the clock jumps.
        assert!(spring[0].starts_with("2026-03-29T01:"), "{spring:?}");
        assert_eq!(spring[1], "2026-03-30T00:30:00Z");
        // 02:30 comes twice on 25 October, at 00:30 and 01:30 UTC.
        let autumn = next(berlin, "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn ticks_beyond_the_calendar_never_come() {
        for length in [
            Duration::from_secs(24 * 3600 * 10_000_000),
            Duration::from_secs(24 * 3600 * (u64::MAX / 86_400)),
        ] {
            let spec = ScheduleSpec::new(Trigger::Every(length)).timezone("Europe/Berlin");
            let ticks = Ticks::at(&Timing::from(&spec)).unwrap();
            assert_eq!(ticks.after(at("2026-01-01T00:00:00Z")), None);
            assert!(ticks.between(at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"), 100).is_empty());
        }
    }

    #[test]
    fn a_leap_day_ticks_in_leap_years_only() {
        assert_eq!(next(cron("0 0 29 2 *"), "2026-01-01T00:00:00Z", 1), ["2028-02-29T00:00:00Z"]);
    }

    #[test]
    fn only_the_last_of_many_missed_ticks_are_computed() {
        let ticks =
            Ticks::at(&Timing::from(&ScheduleSpec::new(Trigger::Every(Duration::from_millis(100))))).unwrap();
        let missed = ticks.between(at("1980-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"), 100);
        assert_eq!(missed.len(), 100);
        assert_eq!(missed[99], at("2026-01-01T00:00:00Z"));
        assert!(ticks.between(missed[99], missed[99], 100).is_empty());
    }
}
