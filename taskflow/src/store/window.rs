//! The recent starts of a queue, for its rate limit.

use serde::{Deserialize, Serialize};

use crate::model::{RateLimit, time};

/// The recent starts of the tasks of one queue, which a [`RateLimit`] counts. It is stored with the queue and takes
/// at most a few thousand bytes, independent of the limit.
///
/// Starts are counted in slices of a hundredth of the limit's length ([`RateLimit::per`]). A slice is remembered until
/// all of it is older than that length. So no interval of that length, wherever it begins, contains more starts than
/// the limit; and a start is at most a hundredth of the length later than it could be. If the length of a limit shrinks, a
/// slice that ends more than the new length and more than 60 s in the future is forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartWindow {
    /// For each slice, oldest first: the instant (microseconds since the epoch) at which it ends, and the starts in it.
    /// The ends are instants, so that they keep their meaning when the limit's length changes.
    slices: Vec<(i64, u64)>,
}

/// The number of slices in a limit's length.
const SLICES: i64 = 100;

/// In microseconds. If the clock is set back by more than this and by more than the limit's length, the window forgets
/// the starts before: otherwise no task would start until the clock reaches them again.
const SKEW: i64 = 60_000_000;

impl StartWindow {
    /// How many tasks may start at `now` (microseconds since the epoch).
    #[must_use]
    pub fn free(&self, limit: RateLimit, now: i64) -> usize {
        let starts = self.remembered_starts(limit, now);
        limit.starts.saturating_sub(usize::try_from(starts).unwrap_or(usize::MAX))
    }

    /// Records that `starts` tasks started at `now` (microseconds since the epoch), and forgets slices that are too
    /// old.
    pub fn start(&mut self, limit: RateLimit, now: i64, starts: usize) {
        let length = length(limit);
        let ends_at = now.div_euclid(length).saturating_add(1).saturating_mul(length);
        let mut kept: Vec<_> = self.remembered(limit, now).collect();
        let starts = u64::try_from(starts).unwrap_or(u64::MAX);
        match kept.last_mut() {
            // After the clock was set back, starts count in the latest slice.
            Some((last, count)) if *last >= ends_at => *count = count.saturating_add(starts),
            _ if starts > 0 => kept.push((ends_at, starts)),
            _ => {}
        }
        self.slices = kept;
    }

    /// The instant (microseconds since the epoch) at which another task may start. `None` if one may start now, or
    /// never (a limit of 0 starts, or a length that goes beyond the range of instants).
    #[must_use]
    pub fn next_free(&self, limit: RateLimit, now: i64) -> Option<i64> {
        if limit.starts == 0 || self.free(limit, now) > 0 {
            return None;
        }
        let mut starts = self.remembered_starts(limit, now);
        let fits = u64::try_from(limit.starts).unwrap_or(u64::MAX);
        for (ends_at, count) in self.remembered(limit, now) {
            starts = starts.saturating_sub(count);
            if starts < fits {
                return ends_at.checked_add(SLICES * length(limit));
            }
        }
        None
    }

    /// The number of remembered starts. It saturates, because the stored numbers may have been edited.
    fn remembered_starts(&self, limit: RateLimit, now: i64) -> u64 {
        self.remembered(limit, now).fold(0, |sum, (_, starts)| starts.saturating_add(sum))
    }

    fn remembered(&self, limit: RateLimit, now: i64) -> impl Iterator<Item = (i64, u64)> + '_ {
        let per = SLICES * length(limit);
        let over = now.saturating_sub(per);
        // Ignore slices that a clock wrote while it was far ahead.
        let beyond = now.saturating_add(per.max(SKEW));
        self.slices.iter().copied().filter(move |(ends_at, _)| *ends_at > over && *ends_at <= beyond)
    }
}

/// The length of a slice, in microseconds.
fn length(limit: RateLimit) -> i64 {
    time::micros(limit.per.max(RateLimit::MIN_PER)).saturating_add(SLICES - 1) / SLICES
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn starts_are_remembered_for_the_length_of_the_limit() {
        let limit = RateLimit::new(3, Duration::from_secs(1));
        let mut window = StartWindow::default();
        window.start(limit, 10 * SECOND, 2);
        assert_eq!((window.free(limit, 10 * SECOND), window.next_free(limit, 10 * SECOND)), (1, None));
        window.start(limit, 10 * SECOND + 500_000, 1);
        assert_eq!(window.free(limit, 10 * SECOND + 999_999), 0);
        let next = window.next_free(limit, 10 * SECOND + 600_000).unwrap();
        assert!((11 * SECOND..=11 * SECOND + 10_000).contains(&next), "{next}");
        assert_eq!((window.free(limit, next - 1), window.free(limit, next)), (0, 2));
    }

    #[test]
    fn a_limit_that_changes_counts_from_what_is_remembered() {
        let (slow, fast) =
            (RateLimit::new(1, Duration::from_secs(60)), RateLimit::new(5, Duration::from_secs(60)));
        let mut window = StartWindow::default();
        window.start(slow, 1000 * SECOND, 1);
        assert_eq!((window.free(slow, 1000 * SECOND), window.free(fast, 1000 * SECOND)), (0, 4));
        assert_eq!(window.free(RateLimit::new(0, Duration::from_secs(1)), 0), 0);
        // Starts that were recorded under a short length expire correctly under a long one.
        let (short, long) =
            (RateLimit::new(2, Duration::from_secs(1)), RateLimit::new(2, Duration::from_secs(60)));
        let mut window = StartWindow::default();
        window.start(short, 1000 * SECOND, 2);
        assert_eq!(window.free(long, 1059 * SECOND), 0);
        window.start(long, 1061 * SECOND, 2);
        assert_eq!((window.free(long, 1120 * SECOND), window.free(long, 1122 * SECOND)), (0, 2));
    }

    #[test]
    fn the_greatest_length_is_accepted() {
        let limit = RateLimit::new(2, Duration::MAX);
        let mut window = StartWindow::default();
        window.start(limit, 1000 * SECOND, 2);
        assert_eq!((window.free(limit, 1001 * SECOND), window.next_free(limit, 1001 * SECOND)), (0, None));
    }

    #[test]
    fn a_clock_that_was_far_ahead_blocks_no_starts() {
        let limit = RateLimit::new(2, Duration::from_secs(1));
        let mut window = StartWindow::default();
        window.start(limit, 90_000 * SECOND, 2);
        assert_eq!(window.free(limit, 89_990 * SECOND), 0, "a little is what they are counted for");
        assert_eq!(window.free(limit, 1_000 * SECOND), 2);
        window.start(limit, 1_000 * SECOND, 2);
        assert_eq!(window.free(limit, 1_000 * SECOND), 0);
        assert_eq!(window.free(limit, 1_002 * SECOND), 2);
    }

    proptest! {
        #[test]
        fn no_interval_of_its_length_contains_more_starts_than_the_limit(
            most in 1_usize..20,
            per in 10_u64..5000,
            steps in prop::collection::vec((0_i64..400_000, 0_usize..8), 1..200),
        ) {
            let limit = RateLimit::new(most, Duration::from_millis(per));
            let (mut window, mut now, mut starts) = (StartWindow::default(), 1_000 * SECOND, Vec::new());
            for (wait, wanted) in steps {
                now += wait;
                let started = wanted.min(window.free(limit, now));
                window.start(limit, now, started);
                starts.extend(std::iter::repeat_n(now, started));
                prop_assert!(window.slices.len() <= 102);
                if let Some(next) = window.next_free(limit, now) {
                    prop_assert!(next > now && window.free(limit, next) > 0 && window.free(limit, next - 1) == 0);
                }
            }
            for (at, begin) in starts.iter().enumerate() {
                let within = starts[at..].iter().filter(|start| **start < begin + limit.per.as_micros() as i64).count();
                prop_assert!(within <= most, "{within} within one stretch");
            }
        }
    }
}
