//! The starts of the last while, for a rate limit.

use serde::{Deserialize, Serialize};

use crate::model::{RateLimit, time};

/// When tasks of one queue started: what a [`RateLimit`] looks at. It is kept with the queue, in a few hundred bytes
/// whatever the limit.
///
/// Starts are counted in slices of a hundredth of the limit's length, and a slice is remembered until all of it is older
/// than that length. So no stretch of that length ever holds more starts than the limit, wherever it begins, and a start
/// is at most a hundredth later than it could be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartWindow {
    /// The number of a slice since the epoch, and the starts in it; oldest first.
    slices: Vec<(i64, u64)>,
}

/// So many slices has a limit's length.
const SLICES: i64 = 100;

impl StartWindow {
    /// How many may start at `now` (microseconds since the epoch).
    #[must_use]
    pub fn free(&self, limit: RateLimit, now: i64) -> usize {
        let starts: u64 = self.remembered(limit, now).map(|(_, starts)| starts).sum();
        limit.starts.saturating_sub(usize::try_from(starts).unwrap_or(usize::MAX))
    }

    /// Takes note that so many started at `now`, and forgets what is over.
    pub fn start(&mut self, limit: RateLimit, now: i64, starts: usize) {
        let slice = now.div_euclid(length(limit));
        let mut kept: Vec<_> = self.remembered(limit, now).collect();
        let starts = u64::try_from(starts).unwrap_or(u64::MAX);
        match kept.last_mut() {
            // A clock that was set back counts on in the latest slice there is.
            Some((last, count)) if *last >= slice => *count = count.saturating_add(starts),
            _ if starts > 0 => kept.push((slice, starts)),
            _ => {}
        }
        self.slices = kept;
    }

    /// The instant (microseconds since the epoch) at which another may start; `None` if one may now, or never.
    #[must_use]
    pub fn next_free(&self, limit: RateLimit, now: i64) -> Option<i64> {
        if limit.starts == 0 || self.free(limit, now) > 0 {
            return None;
        }
        let mut starts: u64 = self.remembered(limit, now).map(|(_, starts)| starts).sum();
        let fits = u64::try_from(limit.starts).unwrap_or(u64::MAX);
        for (slice, count) in self.remembered(limit, now) {
            starts -= count;
            if starts < fits {
                return slice.checked_add(SLICES + 1)?.checked_mul(length(limit));
            }
        }
        None
    }

    fn remembered(&self, limit: RateLimit, now: i64) -> impl Iterator<Item = (i64, u64)> + '_ {
        let oldest = now.div_euclid(length(limit)) - SLICES;
        self.slices.iter().copied().filter(move |(slice, _)| *slice >= oldest)
    }
}

/// How long a slice is, in microseconds.
fn length(limit: RateLimit) -> i64 {
    (time::micros(limit.per.max(RateLimit::MIN_PER)) + SLICES - 1) / SLICES
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn what_started_is_remembered_for_the_length_of_the_limit() {
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
        assert_eq!(
            RateLimit::new(0, Duration::from_secs(1)).starts,
            window.free(RateLimit::new(0, Duration::from_secs(1)), 0)
        );
    }

    proptest! {
        #[test]
        fn no_stretch_of_its_length_holds_more_than_the_limit(
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
