//! What happens to a task after a lost or interrupted run. Every store applies these rules alike.

use std::time::Duration;

use super::{RetryPolicy, TaskStatus};

/// The next state of a task after a lost or interrupted run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AfterLoss {
    /// The task runs again after a delay.
    Pending {
        /// The delay.
        delay: Duration,
        /// Whether the run counts as an attempt.
        counted: bool,
    },
    /// The task has ended.
    Ended {
        /// The final status.
        status: TaskStatus,
        /// The error to store in the record.
        error: String,
    },
}

/// A [lost](crate::AttemptOutcome::Lost) run, as a store reads it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LostRun<'a> {
    /// The retry policy of the task.
    pub policy: &'a RetryPolicy,
    /// The number of the lost attempt.
    pub attempt: u32,
    /// The number of the last possible attempt.
    pub max_attempts: u32,
    /// The number of lost runs in a row directly before this one.
    pub lost_before: u32,
    /// Whether a cancel request had asked the run to stop.
    pub cancel_requested: bool,
}

impl<'a> LostRun<'a> {
    /// A lost run with these properties.
    #[must_use]
    pub fn new(
        policy: &'a RetryPolicy,
        attempt: u32,
        max_attempts: u32,
        lost_before: u32,
        cancel_requested: bool,
    ) -> Self {
        Self { policy, attempt, max_attempts, lost_before, cancel_requested }
    }

    /// Applies the recovery rule for lost runs. `chance` from 0 to 1 selects the jitter of the delay.
    #[must_use]
    pub fn next(&self, chance: f64) -> AfterLoss {
        let lost = self.lost_before.saturating_add(1);
        if self.cancel_requested {
            return AfterLoss::Ended { status: TaskStatus::Cancelled, error: "cancelled".to_owned() };
        }
        if lost >= self.policy.max_lost_runs.max(1) && self.may_run_again() {
            let error = format!(
                "poison: its last {lost} runs were lost (max_lost_runs); \
                 the attempts name their processes"
            );
            return AfterLoss::Ended { status: TaskStatus::Failed, error };
        }
        if self.policy.requeue_on_interrupt {
            return AfterLoss::Pending { delay: Duration::ZERO, counted: false };
        }
        if self.attempt < self.max_attempts {
            return AfterLoss::Pending {
                delay: self.policy.back_off_with(self.attempt, chance),
                counted: true,
            };
        }
        let error = "worker lost: its process died or lost its lease; the task may not run twice".to_owned();
        AfterLoss::Ended { status: TaskStatus::Interrupted, error }
    }

    fn may_run_again(&self) -> bool {
        self.policy.requeue_on_interrupt || self.attempt < self.max_attempts
    }
}

/// The next state of a task after its own process interrupted the run; `why` completes the error text "interrupted ..". If the
/// task may run again, it does so at once, and the attempt does not count. Otherwise it ends as `interrupted`.
pub(crate) fn after_interruption(
    policy: &RetryPolicy,
    attempt: u32,
    max_attempts: u32,
    why: &str,
) -> AfterLoss {
    if policy.requeue_on_interrupt || attempt < max_attempts {
        return AfterLoss::Pending { delay: Duration::ZERO, counted: false };
    }
    AfterLoss::Ended {
        status: TaskStatus::Interrupted,
        error: format!("interrupted {why}, and the task may not run twice"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(policy: &RetryPolicy, attempt: u32, lost_before: u32) -> AfterLoss {
        LostRun::new(policy, attempt, policy.max_attempts(), lost_before, false).next(0.5)
    }

    #[test]
    fn a_task_that_may_not_run_twice_becomes_interrupted() {
        let once = RetryPolicy::DEFAULT;
        assert!(matches!(next(&once, 1, 0), AfterLoss::Ended { status: TaskStatus::Interrupted, .. }));
        assert!(matches!(
            after_interruption(&once, 1, 1, "by a shutdown"),
            AfterLoss::Ended { status: TaskStatus::Interrupted, .. }
        ));
    }

    #[test]
    fn attempts_left_are_used_after_the_back_off() {
        let policy = RetryPolicy { retries: 5, ..RetryPolicy::DEFAULT };
        let expected = AfterLoss::Pending { delay: Duration::from_secs(2), counted: true };
        assert_eq!(next(&policy, 2, 0), expected);
        assert!(matches!(next(&policy, 6, 0), AfterLoss::Ended { status: TaskStatus::Interrupted, .. }));
    }

    #[test]
    fn a_task_that_kills_its_processes_fails_as_poison() {
        for requeue_on_interrupt in [true, false] {
            let policy = RetryPolicy { retries: 5, requeue_on_interrupt, ..RetryPolicy::DEFAULT };
            assert!(matches!(next(&policy, 2, 1), AfterLoss::Pending { .. }));
            assert!(matches!(next(&policy, 3, 2), AfterLoss::Ended { status: TaskStatus::Failed, .. }));
        }
    }

    #[test]
    fn requeueing_does_not_count_the_attempt() {
        let policy = RetryPolicy { requeue_on_interrupt: true, ..RetryPolicy::DEFAULT };
        assert_eq!(next(&policy, 1, 0), AfterLoss::Pending { delay: Duration::ZERO, counted: false });
    }

    #[test]
    fn a_lost_run_with_a_cancel_request_is_cancelled() {
        let policy = RetryPolicy { retries: 5, ..RetryPolicy::DEFAULT };
        let run = LostRun::new(&policy, 1, 6, 0, true);
        assert!(matches!(run.next(0.5), AfterLoss::Ended { status: TaskStatus::Cancelled, .. }));
    }
}
