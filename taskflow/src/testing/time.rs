//! How time passes in a test.

use std::pin::pin;
use std::time::{Duration, SystemTime};

use super::ran::Drained;
use super::tasks::TestTasks;
use super::{Length, Moment};
use crate::model::time::to_micros;
use crate::seam::Wait;

impl TestTasks {
    /// The wall clock of the test.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Lets time pass, and runs all that becomes due meanwhile, each at its time and in order: tasks, retries, ticks of
    /// schedules, timeouts, leases, expiry, retention.
    pub async fn advance(&self, length: impl Length) -> Drained {
        let end = self.clock.instant() + length.length();
        self.store.open(usize::MAX);
        self.run_due(false).await;
        loop {
            let left = end.saturating_duration_since(self.clock.instant());
            if left.is_zero() {
                break;
            }
            self.pass(left).await;
        }
        self.store.close()
    }

    /// Lets time pass until the next thing happens, for no longer than `longest`.
    pub(super) async fn pass(&self, longest: Duration) {
        let event = self.store.memory.next_event();
        // The timers of renewals count only while there are leases. The pauses between two polls of the store count only if
        // something in the store is overdue, because a poll must find it.
        let has_leases = self.store.memory.has_leases();
        let most = match event {
            Some(Duration::ZERO) => Wait::Pause,
            _ if has_leases => Wait::Renewal,
            _ => Wait::Exact,
        };
        let event = event.filter(|event| !event.is_zero());
        let step = [event, self.clock.next_timer(most)].into_iter().flatten().min();
        let step = step.map_or(longest, |step| step.max(Duration::from_micros(1)).min(longest));
        self.clock.pass(step, !has_leases);
        self.run_due(false).await;
    }

    /// Awaits a call of the engine. Whenever the engine is idle, time passes, so that a slow store can answer.
    pub(super) async fn carried<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            tokio::select! {
                biased;
                answer = &mut future => return answer,
                () = self.clock.quiet() => {}
            }
            self.pass(Duration::from_secs(60)).await;
        }
    }

    /// Lets time pass until that instant.
    ///
    /// # Panics
    /// If the instant is in the past. [`set_clock`](Self::set_clock) sets the clock back.
    pub async fn advance_to(&self, moment: impl Moment) -> Drained {
        match moment.moment().duration_since(self.now()) {
            Ok(length) => self.advance(length).await,
            Err(_) => panic!("the clock of the test is beyond that instant; `set_clock` sets it back"),
        }
    }

    /// Sets the wall clock, forward or back, as an operator does: no time passes.
    pub fn set_clock(&self, moment: impl Moment) {
        let (now, at) = (to_micros(self.now()), to_micros(moment.moment()));
        self.clock.set_ahead(|ahead| ahead + at - now);
    }
}
