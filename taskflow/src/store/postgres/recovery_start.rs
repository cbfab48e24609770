//! Where a recovery starts to search for leases that have ended.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::value;

/// Where a recovery starts to search the index for leases that have ended. Each run leaves an entry there until the table
/// is vacuumed, which makes a search from the beginning slow. As long as such a search is fast, every search starts at
/// the beginning.
#[derive(Debug, Default)]
pub(super) struct RecoveryStart {
    state: Mutex<(Option<value::Instant>, Option<Instant>)>,
}

/// A search starts this much earlier than the instant at which none was found, in microseconds: a transaction may
/// commit a lease this long after its end.
const LATE: i64 = 10_000_000;
/// While a search from the beginning takes no longer than this, every search starts there.
const FAST: Duration = Duration::from_millis(5);
/// Slower searches from the beginning may take one part in this many of the time.
const SHARE: u32 = 50;
/// How long a search has taken when the server gives it up.
const FAILED: Duration = Duration::from_secs(7);

impl RecoveryStart {
    /// Where to start a search now; `None` is the beginning.
    pub(super) fn from(&self, now: Instant) -> Option<value::Instant> {
        let mut state = self.state.lock();
        let (from, whole_at) = *state;
        if let Some(at) = whole_at
            && at <= now
        {
            // If this search from the beginning fails, the next ones do not repeat it at once.
            state.1 = Some(now + FAILED * SHARE);
        }
        from.filter(|_| whole_at.is_some_and(|at| now < at))
    }

    /// Notes that at the instant `at` no lease had ended. `whole` is how long the search took, if it started at the
    /// beginning.
    pub(super) fn found_none(&self, at: value::Instant, whole: Option<Duration>) {
        let mut state = self.state.lock();
        state.0 = Some(value::Instant(at.0 - LATE));
        if let Some(took) = whole {
            state.1 = (took > FAST).then(|| Instant::now() + took * SHARE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_searches_from_the_beginning_unless_that_is_slow() {
        let (start, now, at) = (RecoveryStart::default(), Instant::now(), value::Instant(2 * LATE));
        assert_eq!(start.from(now), None);
        start.found_none(at, Some(FAST));
        assert_eq!(start.from(now), None);
        start.found_none(at, Some(2 * FAST));
        assert_eq!(start.from(now), Some(value::Instant(LATE)));
        start.found_none(value::Instant(3 * LATE), None);
        assert_eq!(start.from(now), Some(value::Instant(2 * LATE)));
        assert_eq!(start.from(Instant::now() + 2 * FAST * SHARE), None, "it is time for a whole one");
    }

    #[test]
    fn a_whole_recovery_search_that_fails_is_not_repeated_at_once() {
        let (start, at) = (RecoveryStart::default(), value::Instant(2 * LATE));
        start.found_none(at, Some(FAST * 2));
        let later = Instant::now() + FAST * 2 * SHARE + FAST;
        assert_eq!(start.from(later), None, "it is time for a whole one");
        assert_eq!(start.from(later), Some(value::Instant(LATE)), "which has not been answered");
    }
}
