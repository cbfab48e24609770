//! The exit of the meter to the facade `metrics`, recorded as it happens.

use std::fmt;
use std::time::Duration;

use metrics::{Counter, Histogram, SharedString};

use super::counter::Counter as Of;

/// The counters and histograms of one cell. A recorder must be installed before the manager starts; without one they do
/// nothing.
pub(super) struct Facade {
    added: Counter,
    retries: Counter,
    /// Attempts by outcome, in the order of [`OUTCOMES`].
    attempts: [Counter; OUTCOMES.len()],
    /// Tasks that ended, in the order of [`STATUSES`].
    ended: [Counter; STATUSES.len()],
    wait: Histogram,
    run: Histogram,
}

const OUTCOMES: [(Of, &str); 8] = [
    (Of::Succeeded, "success"),
    (Of::Errored, "failed"),
    (Of::Panicked, "panicked"),
    (Of::TimedOut, "timed_out"),
    (Of::Cancelled, "cancelled"),
    (Of::Snoozed, "snoozed"),
    (Of::Interrupted, "interrupted"),
    (Of::Lost, "lost"),
];

const STATUSES: [(Of, &str); 3] =
    [(Of::Succeeded, "success"), (Of::Failed, "failed"), (Of::Cancelled, "cancelled")];

impl Facade {
    pub(super) fn new(name: &str, queue: &str) -> Self {
        let own = |text: &str| SharedString::from(text.to_owned());
        let labels = || [("task", own(name)), ("queue", own(queue))];
        let with = |label, word: &'static str| {
            [("task", own(name)), ("queue", own(queue)), (label, SharedString::from(word))]
        };
        Self {
            added: metrics::counter!("taskflow_tasks_added_total", &labels()),
            retries: metrics::counter!("taskflow_retries_total", &labels()),
            attempts: OUTCOMES
                .map(|(_, word)| metrics::counter!("taskflow_attempts_total", &with("outcome", word))),
            ended: STATUSES
                .map(|(_, word)| metrics::counter!("taskflow_tasks_ended_total", &with("status", word))),
            wait: metrics::histogram!("taskflow_task_wait_seconds", &labels()),
            run: metrics::histogram!("taskflow_task_run_seconds", &labels()),
        }
    }

    /// Counts what is no attempt that ended.
    pub(super) fn count(&self, counter: Of) {
        match counter {
            Of::Added => self.added.increment(1),
            Of::Lost => self.attempt(counter, None),
            _ => {}
        }
    }

    /// Counts an attempt that ended so, for this reason if it failed.
    pub(super) fn attempt(&self, counter: Of, cause: Option<Of>) {
        let outcome = cause.unwrap_or(counter);
        if let Some(at) = OUTCOMES.iter().position(|(of, _)| *of == outcome) {
            self.attempts[at].increment(1);
        }
        if let Some(at) = STATUSES.iter().position(|(of, _)| *of == counter) {
            self.ended[at].increment(1);
        }
        if counter == Of::Retried {
            self.retries.increment(1);
        }
    }

    pub(super) fn waited(&self, length: Duration) {
        self.wait.record(length);
    }

    pub(super) fn ran(&self, length: Duration) {
        self.run.record(length);
    }
}

impl fmt::Debug for Facade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facade").finish_non_exhaustive()
    }
}
