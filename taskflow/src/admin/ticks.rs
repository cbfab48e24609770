//! Computes the next ticks of a schedule from its [`ScheduleInfo`].

use std::time::{Duration, SystemTime};

use crate::model::ScheduleInfo;
use crate::task::{Cron, Every};

/// The next ticks of a schedule, at most `count`; none while it is paused, or if no running program runs the schedule.
///
/// The first is [`next_run`](ScheduleInfo::next_run), and the others follow from its trigger and its time zone.
#[must_use]
pub fn next_ticks(schedule: &ScheduleInfo, count: usize) -> Vec<SystemTime> {
    let Some(next) = schedule.next_run else { return Vec::new() };
    let later = later(schedule, next).into_iter().flatten();
    std::iter::once(next).chain(later).take(count).collect()
}

/// The ticks after `next`. `None` for a trigger that this version does not know.
fn later(schedule: &ScheduleInfo, next: SystemTime) -> Option<Box<dyn Iterator<Item = SystemTime>>> {
    let (trigger, zone) = (schedule.trigger.as_deref()?, schedule.timezone.as_deref());
    if let Some(length) = trigger.strip_prefix("every ") {
        let every = Every::new(interval(length)?).ok()?;
        let every = match zone {
            Some(zone) => every.timezone(zone).ok()?,
            None => every,
        };
        return Some(Box::new(every.upcoming(next)));
    }
    let cron = Cron::parse(trigger).ok()?;
    let cron = match zone {
        Some(zone) => cron.timezone(zone).ok()?,
        None => cron,
    };
    Some(Box::new(cron.upcoming(next)))
}

/// Reads an interval as a trigger writes it: `30s`, `1.5s`, `100ms`.
fn interval(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| c.is_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let nanos = match unit {
        "s" => 1e9,
        "ms" => 1e6,
        "µs" => 1e3,
        "ns" => 1.0,
        _ => return None,
    };
    let nanos = number.parse::<f64>().ok()? * nanos;
    (nanos >= 0.0).then(|| Duration::from_nanos(nanos.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(trigger: &str, zone: Option<&str>, next: u64) -> Vec<u64> {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut schedule = ScheduleInfo::new("backup".to_owned());
        schedule.trigger = Some(trigger.to_owned());
        schedule.timezone = zone.map(str::to_owned);
        schedule.next_run = Some(at(next));
        let ticks = next_ticks(&schedule, 4);
        let since =
            |tick: SystemTime| tick.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        ticks.into_iter().map(since).collect()
    }

    #[test]
    fn ticks_follow_from_what_a_schedule_shows() {
        assert_eq!(seconds("every 30s", None, 60), [60, 90, 120, 150]);
        assert_eq!(seconds("every 1.5s", None, 3), [3, 4, 6, 7]);
        assert_eq!(seconds("*/5 * * * *", None, 300), [300, 600, 900, 1_200]);
        let midnights = seconds("every 86400s", Some("Asia/Tokyo"), 15 * 3_600);
        assert_eq!(midnights, [54_000, 140_400, 226_800, 313_200]);
        assert_eq!(seconds("when the moon is full", None, 60), [60], "a trigger of a later version");
    }

    #[test]
    fn a_paused_schedule_has_no_next_tick() {
        let mut schedule = ScheduleInfo::new("backup".to_owned());
        schedule.trigger = Some("every 30s".to_owned());
        assert_eq!(next_ticks(&schedule, 5), []);
    }

    #[test]
    fn each_interval_that_a_program_can_declare_is_read_back() {
        for length in [Every::MIN, Duration::from_millis(1_234), Duration::new(5, 678_901_234), Every::MAX] {
            let shown = crate::task::Trigger::Every(length).to_string();
            let read = interval(shown.strip_prefix("every ").expect("an interval"));
            assert_eq!(read, Some(length), "{shown}");
        }
    }
}
