//! Decides which due ticks run. Usually one tick is due; more are due after the store or every process was down.

use std::time::{Duration, SystemTime};

use crate::task::{Missed, Ticks};

/// The most missed ticks that run after all.
const MAX_MISSED: usize = 100;

/// A tick that is later than this counts as missed.
const LATE: Duration = Duration::from_secs(10);

/// The due ticks, in order.
#[derive(Debug)]
pub(super) struct Due {
    /// The number of missed ticks.
    pub(super) missed: u64,
    pub(super) steps: Vec<Step>,
}

/// A tick to handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) tick: SystemTime,
    /// Whether the tick runs, or is only recorded as passed.
    pub(super) runs: bool,
    /// The number of skipped ticks that are recorded with this one.
    pub(super) skipped: u64,
}

impl Due {
    /// The ticks after `last` that are due at `now`.
    pub(super) fn at(ticks: &Ticks, rule: Missed, last: SystemTime, now: SystemTime) -> Self {
        let on_time_from = now.checked_sub(LATE + Duration::from_micros(1)).unwrap_or(last).max(last);
        let on_time = ticks.between(on_time_from, now, usize::MAX);
        let mut runs = Vec::new();
        let mut missed = 0;
        let mut left_out = 0;
        if on_time_from > last {
            let most = if rule == Missed::All { MAX_MISSED } else { 1 };
            let newest = ticks.between(last, on_time_from, most);
            if !newest.is_empty() {
                missed = ticks.count(last, on_time_from).max(newest.len() as u64);
            }
            left_out = missed;
            // With `Missed::One`, an on-time tick is the one run that makes up for the missed ones.
            if rule == Missed::All || (rule == Missed::One && on_time.is_empty()) {
                left_out -= newest.len() as u64;
                runs.extend(newest);
            } else if on_time.is_empty()
                && let Some(tick) = newest.last()
            {
                let steps = vec![Step { tick: *tick, runs: false, skipped: left_out }];
                return Self { missed, steps };
            }
        }
        runs.extend(on_time);
        let steps = runs.into_iter().map(|tick| {
            let skipped = std::mem::take(&mut left_out);
            Step { tick, runs: true, skipped }
        });
        Self { missed, steps: steps.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{ScheduleSpec, Timing, Trigger};

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// The ticks that run, those that only pass, and the number of skipped ones, for a tick every minute.
    fn minutely(rule: Missed, last: u64, now: u64) -> (Vec<u64>, Vec<u64>, u64) {
        let spec = ScheduleSpec::new(Trigger::Every(Duration::from_secs(60)));
        let due = Due::at(&Ticks::at(&Timing::from(&spec)).unwrap(), rule, at(last), at(now));
        let minutes = |runs| {
            let ticks = due.steps.iter().filter(|step| step.runs == runs);
            ticks.map(|step| step.tick.duration_since(at(0)).unwrap().as_secs() / 60).collect()
        };
        (minutes(true), minutes(false), due.steps.iter().map(|step| step.skipped).sum())
    }

    #[test]
    fn a_tick_that_is_up_to_ten_seconds_late_is_not_missed() {
        for rule in [Missed::Skip, Missed::One, Missed::All] {
            assert_eq!(minutely(rule, 60, 120), (vec![2], vec![], 0));
            assert_eq!(minutely(rule, 60, 130), (vec![2], vec![], 0));
            assert_eq!(minutely(rule, 60, 119), (vec![], vec![], 0));
        }
        assert_eq!(minutely(Missed::Skip, 60, 131), (vec![], vec![2], 1));
    }

    #[test]
    fn every_tick_of_the_last_ten_seconds_runs_and_earlier_ones_by_the_rule() {
        let spec = ScheduleSpec::new(Trigger::Every(Duration::from_millis(100)));
        let ticks = Ticks::at(&Timing::from(&spec)).unwrap();
        for rule in [Missed::Skip, Missed::One, Missed::All] {
            let due = Due::at(&ticks, rule, at(100), at(103));
            assert_eq!((due.missed, due.steps.len()), (0, 30));
        }
        let due = Due::at(&ticks, Missed::One, at(100), at(115));
        assert_eq!((due.missed, due.steps.len(), due.steps[0].skipped), (49, 101, 49));
        assert_eq!(due.steps[1].skipped, 0);
    }

    #[test]
    fn of_missed_ticks_run_what_the_rule_says_and_every_other_is_counted() {
        let hours = 200 * 60 * 60;
        assert_eq!(minutely(Missed::Skip, 0, 330), (vec![], vec![5], 5));
        assert_eq!(minutely(Missed::One, 0, 330), (vec![5], vec![], 4));
        assert_eq!(minutely(Missed::All, 0, 330), (vec![1, 2, 3, 4, 5], vec![], 0));
        assert_eq!(minutely(Missed::Skip, 0, 300), (vec![5], vec![], 4));
        assert_eq!(
            minutely(Missed::One, 0, 300),
            (vec![5], vec![], 4),
            "the tick that is due now stands for all"
        );
        let (runs, passes, left_out) = minutely(Missed::All, 0, hours + 30);
        assert_eq!((runs.len(), passes.len(), left_out), (100, 0, 12_000 - 100));
    }
}
