//! Claims that *meet*: other claims have locked the tasks that a claim wants.
//!
//! A claim passes over the tasks that other claims have locked. If it could pass over any number of them, each of sixty
//! claims at once would read the tasks that the other fifty-nine take. So a claim reads only a few times as many tasks as
//! it wants: its *window*. If others have locked all of these, it takes nothing and is repeated soon, when the others have
//! taken them. Each repetition in a row doubles the window, because locks that stay are not those of claims, and doubles
//! the pause, because the others do the work meanwhile. A claim that meets others and takes something halves the window. A
//! claim that meets none resets it.
//!
//! `SKIP LOCKED` also locks tasks that others have claimed since the statement began, and keeps these locks until its
//! transaction ends, although it does not take the tasks. Until then the runs of these tasks cannot end. So while claims
//! meet, a turn ends its runs in a statement of their own, which is short, and then claims with a new snapshot.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The window at first: how many times as many tasks as it wants a claim reads at most.
const WINDOW: i64 = 4;
/// The longest pause after the first claim that met others. A pause is a random part of the longest, but at least half
/// of it.
const PAUSE: Duration = Duration::from_millis(10);
/// How often the longest pause is doubled at most: to 320 ms.
const LONGEST_PAUSE: u32 = 5;
/// How often the window is doubled at most.
const WIDEST: u32 = 16;

/// For this number of turns after a claim that met others, runs end in a statement of their own.
const APART: u32 = 16;

#[derive(Debug, Default)]
pub(super) struct Contention {
    /// How many times the window has been doubled.
    doubled: AtomicU32,
    /// How many claims through this store value in a row took nothing because they met others.
    met: AtomicU32,
    /// How many more turns end runs in a statement of their own.
    apart: AtomicU32,
}

impl Contention {
    /// The window of the next claim: how many times as many tasks as it wants it reads at most.
    pub(super) fn window(&self) -> i64 {
        WINDOW << self.doubled.load(Ordering::Relaxed).min(WIDEST)
    }

    /// Whether the runs of this turn end in a statement of their own. Counts the turn.
    pub(super) fn are_apart(&self) -> bool {
        let fewer = |turns: u32| turns.checked_sub(1);
        self.apart.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok()
    }

    /// Notes a claim that took `taken` tasks. If it got too few because it met others, answers how long to wait before
    /// the next claim.
    pub(super) fn claimed(&self, met_another: bool, taken: usize) -> Option<Duration> {
        let (doubled, met) = (self.doubled.load(Ordering::Relaxed), self.met.load(Ordering::Relaxed));
        let (doubled, met) = match (met_another, taken) {
            (false, _) => (0, 0),
            (true, 0) => ((doubled + 1).min(WIDEST), met.saturating_add(1)),
            // If locks stay, at least every second claim has a window that is wide enough to pass over them.
            (true, _) => (doubled.saturating_sub(1), 0),
        };
        self.doubled.store(doubled, Ordering::Relaxed);
        self.met.store(met, Ordering::Relaxed);
        if met_another {
            self.apart.store(APART, Ordering::Relaxed);
        }
        let longest = PAUSE * (1 << met.saturating_sub(1).min(LONGEST_PAUSE));
        met_another.then(|| longest.mul_f64(0.5 + fastrand::f64() / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_that_meet_others_look_at_more_and_wait_longer_until_one_takes_something() {
        let contention = Contention::default();
        assert_eq!((contention.window(), contention.claimed(false, 0)), (4, None));
        let mut longest = 10;
        for window in [4, 8, 16, 32, 64, 128] {
            assert_eq!(contention.window(), window);
            let pause = contention.claimed(true, 0).expect("a claim that met others is made again");
            let longest_pause = Duration::from_millis(longest);
            assert!((longest_pause / 2..=longest_pause).contains(&pause), "{pause:?} at {window}");
            longest = (longest * 2).min(320);
        }
        let pause = contention.claimed(true, 1).expect("there may be more");
        assert!(pause <= Duration::from_millis(10), "{pause:?}");
        assert_eq!(contention.window(), 128, "half as wide, not as at first");
        assert_eq!(contention.claimed(false, 1), None);
        assert_eq!(contention.window(), 4);
    }

    #[test]
    fn locks_that_stay_are_passed_over_in_the_end() {
        let contention = Contention::default();
        for _ in 0..1_000 {
            let _ = contention.claimed(true, 0);
        }
        assert_eq!(contention.window(), 4 << 16);
    }
}
