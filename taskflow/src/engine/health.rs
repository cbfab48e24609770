//! The health of the store, as this process sees it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::panics;
use super::written::Written;
use crate::model::{Health, StoreError};
use crate::seam::{Instant, Seam};

/// How often the log repeats that the store is degraded.
const REMINDER: Duration = Duration::from_secs(60);

/// After this long without a failed call, any write ends a degraded time, even if another kind of call has failed and not
/// succeeded since: a refused caller may never ask again. It is longer than any back-off.
const NO_RECENT_FAILURE: Duration = Duration::from_secs(10);

/// The most ids of missing keys that are kept.
const MAX_MISSING: usize = 32;

/// Counts store errors, and records since when the store is degraded.
#[derive(Debug, Default)]
pub(crate) struct HealthMeter {
    seam: Seam,
    degraded: Mutex<Option<Degraded>>,
    /// Whether `degraded` is set. Every call reads this, and taking the lock each time would be slow.
    is_degraded: AtomicBool,
    pub(crate) stale_writes: AtomicU64,
    pub(crate) lost_leases: AtomicU64,
    store_errors: AtomicU64,
    /// How often a part of the engine panicked and was restarted, and the text of the last panic.
    restarts: Mutex<(u64, Option<String>)>,
    /// The ids of keys that a task needed and this process lacks.
    missing_keys: Mutex<BTreeSet<String>>,
}

/// A time during which the store is unreachable or refuses writes.
#[derive(Debug)]
struct Degraded {
    since: SystemTime,
    began: Instant,
    /// The last error.
    reason: String,
    /// The kinds of calls that have failed and not succeeded since.
    failing: Vec<&'static str>,
    failed_at: Instant,
    logged_at: Instant,
}

/// How the log reports a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    Begins,
    /// The degraded time has lasted this long, and the last message about it is at least [`REMINDER`] old.
    Lasts(Duration),
    /// The log has already said so.
    AlreadyLogged,
}

/// Marks the start of a call. The success of a call says nothing about a failure that came after its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Began(u64);

impl HealthMeter {
    pub(crate) fn new(seam: Seam) -> Self {
        Self { seam, ..Self::default() }
    }

    /// Marks the start of a call.
    pub(crate) fn begin(&self) -> Began {
        Began(self.store_errors.load(Ordering::Relaxed))
    }

    /// Records the outcome of a write, and returns it. Only an answer that shows that something was written ends a
    /// degraded time: a store that refuses writes still answers reads, and claims that find nothing.
    pub(crate) fn note<T: Written>(
        &self,
        what: &'static str,
        began: Began,
        answer: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &answer {
            Ok(value) => self.succeeded(what, began, value.is_written()),
            Err(error) => self.failed(what, error),
        }
        answer
    }

    /// Like [`note`](Self::note), for a call whose success does not show that anything was written. In a process that writes
    /// nothing by itself, a read that succeeds `suffices` to end a degraded time.
    pub(crate) fn note_read<T>(
        &self,
        what: &'static str,
        began: Began,
        suffices: bool,
        answer: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &answer {
            Ok(_) => self.succeeded(what, began, suffices),
            Err(error) => self.failed(what, error),
        }
        answer
    }

    fn succeeded(&self, what: &'static str, began: Began, is_written: bool) {
        if self.is_degraded.load(Ordering::Relaxed)
            && let Some(lasted) = self.succeeded_at(self.seam.instant(), what, began, is_written)
        {
            tracing::info!("the store takes writes again; it was degraded for {lasted:.1?}");
        }
    }

    /// Returns how long the degraded time lasted, if it ends.
    fn succeeded_at(
        &self,
        now: Instant,
        what: &'static str,
        began: Began,
        is_written: bool,
    ) -> Option<Duration> {
        let mut degraded = self.degraded.lock();
        let current = degraded.as_mut().filter(|_| self.begin().0 == began.0)?;
        current.failing.retain(|failing| *failing != what);
        let is_over =
            current.failing.is_empty() || now.duration_since(current.failed_at) >= NO_RECENT_FAILURE;
        if !is_written || !is_over {
            return None;
        }
        let lasted = now.duration_since(current.began);
        *degraded = None;
        self.is_degraded.store(false, Ordering::Relaxed);
        Some(lasted)
    }

    /// Records a failed call.
    pub(crate) fn failed(&self, what: &'static str, error: &StoreError) {
        match self.failed_at(self.seam.instant(), what, error) {
            Notice::Begins => tracing::warn!(%error, "{what} failed; the store is degraded, retrying"),
            Notice::Lasts(lasted) => {
                tracing::warn!(%error, "{what} failed; the store has been degraded for {lasted:.0?}, retrying");
            }
            Notice::AlreadyLogged => tracing::debug!(%error, "{what} failed"),
        }
    }

    fn failed_at(&self, now: Instant, what: &'static str, error: &StoreError) -> Notice {
        let mut degraded = self.degraded.lock();
        self.store_errors.fetch_add(1, Ordering::Relaxed);
        let reason = error.to_string();
        let Some(current) = degraded.as_mut() else {
            let since = self.seam.now();
            let failing = vec![what];
            *degraded = Some(Degraded { since, began: now, reason, failing, failed_at: now, logged_at: now });
            self.is_degraded.store(true, Ordering::Relaxed);
            return Notice::Begins;
        };
        current.reason = reason;
        current.failed_at = now;
        if !current.failing.contains(&what) {
            current.failing.push(what);
        }
        if now.duration_since(current.logged_at) < REMINDER {
            return Notice::AlreadyLogged;
        }
        current.logged_at = now;
        Notice::Lasts(now.duration_since(current.began))
    }

    /// Records that a part of the engine panicked and is restarted.
    pub(crate) fn restarted(&self, part: &'static str, panic: &str) {
        let mut restarts = self.restarts.lock();
        restarts.0 += 1;
        restarts.1 = Some(format!("{part} {panic}"));
        drop(restarts);
        // The log may be what panicked.
        let _ = panics::catch(|| tracing::error!("{part} {panic}; restarting it"));
    }

    /// Records that a task needs a key that this process lacks.
    pub(crate) fn missing_key(&self, id: &str) {
        let mut missing = self.missing_keys.lock();
        // The ids come from the store and may be damaged, so their number is limited.
        if missing.len() < MAX_MISSING && missing.insert(id.to_owned()) {
            drop(missing);
            tracing::warn!(key = id, "a task is sealed with a key that is not in this process's key ring");
        }
    }

    pub(crate) fn stale_write(&self) {
        self.stale_writes.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lost_lease(&self) {
        self.lost_leases.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn show(&self, claimed: usize, running: usize) -> Health {
        let mut health = Health::default();
        if let Some(degraded) = &*self.degraded.lock() {
            (health.degraded_since, health.reason) = (Some(degraded.since), Some(degraded.reason.clone()));
        }
        health.stale_writes = self.stale_writes.load(Ordering::Relaxed);
        health.lost_leases = self.lost_leases.load(Ordering::Relaxed);
        health.store_errors = self.store_errors.load(Ordering::Relaxed);
        (health.engine_restarts, health.last_engine_panic) = self.restarts.lock().clone();
        health.missing_keys = self.missing_keys.lock().iter().cloned().collect();
        health.claimed = claimed as u64;
        health.running = running as u64;
        health
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StoreErrorKind;

    fn full() -> StoreError {
        StoreError::new(StoreErrorKind::Full, "no room is left")
    }

    fn since(meter: &HealthMeter) -> Option<SystemTime> {
        meter.show(0, 0).degraded_since
    }

    #[test]
    fn reads_and_claims_that_find_nothing_do_not_end_a_degraded_time() {
        for refused in ["an insert", "a claim", "a recovery", "a turn", "a read"] {
            let meter = HealthMeter::new(Seam::default());
            meter.failed(refused, &full());
            let began = since(&meter).unwrap();
            meter.note_read("a read", meter.begin(), false, Ok(1)).unwrap();
            meter.note("a claim", meter.begin(), Ok(crate::store::Claims::default())).unwrap();
            meter.note("a recovery", meter.begin(), Ok(Vec::<crate::store::Recovered>::new())).unwrap();
            let nothing = (Vec::<crate::store::Finished>::new(), crate::store::Claims::default());
            meter.note("a turn", meter.begin(), Ok(nothing)).unwrap();
            assert_eq!(since(&meter), Some(began), "{refused}");
            meter.note(refused, meter.begin(), Ok(())).unwrap();
            assert_eq!(since(&meter), None, "{refused}");
        }
    }

    #[test]
    fn a_write_of_another_kind_ends_it_only_when_none_has_failed_for_a_while() {
        let (meter, start) = (HealthMeter::new(Seam::default()), Instant::now());
        meter.failed_at(start, "an insert", &full());
        meter.succeeded_at(start + NO_RECENT_FAILURE / 2, "a renewal", meter.begin(), true);
        assert!(since(&meter).is_some());
        meter.failed_at(start + NO_RECENT_FAILURE, "an insert", &full());
        meter.succeeded_at(
            start + NO_RECENT_FAILURE + NO_RECENT_FAILURE / 2,
            "a renewal",
            meter.begin(),
            true,
        );
        assert!(since(&meter).is_some());
        meter.succeeded_at(start + NO_RECENT_FAILURE * 2, "a renewal", meter.begin(), true);
        assert!(since(&meter).is_none());
    }

    #[test]
    fn a_write_that_began_before_the_failure_does_not_end_it() {
        let meter = HealthMeter::new(Seam::default());
        let before = meter.begin();
        meter.failed("an insert", &full());
        meter.note("an insert", before, Ok(())).unwrap();
        assert!(since(&meter).is_some());
        meter.note("an insert", meter.begin(), Ok(())).unwrap();
        assert!(since(&meter).is_none());
    }

    #[test]
    fn the_log_says_it_once_when_it_begins_and_ends_and_once_a_minute_between() {
        let (meter, start) = (HealthMeter::new(Seam::default()), Instant::now());
        let mut notices = Vec::new();
        for tenth in 0..1500 {
            notices.push(meter.failed_at(start + Duration::from_millis(100) * tenth, "an insert", &full()));
            assert_eq!(meter.succeeded_at(start, "a claim", meter.begin(), false), None);
        }
        notices.retain(|notice| *notice != Notice::AlreadyLogged);
        let minutes = [60, 120].map(|seconds| Notice::Lasts(Duration::from_secs(seconds)));
        assert_eq!(notices, [Notice::Begins, minutes[0], minutes[1]]);
        let all = Duration::from_secs(150);
        assert_eq!(meter.succeeded_at(start + all, "an insert", meter.begin(), true), Some(all));
    }
}
