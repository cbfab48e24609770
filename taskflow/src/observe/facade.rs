//! Records in the crate `metrics`, as it happens, what the meter counts.

use std::fmt;
use std::time::Duration;

use metrics::{Counter, Histogram, SharedString};

use super::counter::{Counter as Of, OUTCOMES, SOURCES, STATUSES, Words};

/// The counters and histograms of one cell (a task name in a queue). A recorder must be installed before the manager starts:
/// handles that were made without one do nothing.
pub(super) struct Facade {
    /// Added tasks by source, in the order of [`SOURCES`].
    added: [Counter; SOURCES.len()],
    retries: Counter,
    /// Attempts by outcome, in the order of [`OUTCOMES`].
    attempts: [Counter; OUTCOMES.len()],
    /// Tasks that ended, in the order of [`STATUSES`].
    ended: [Counter; STATUSES.len()],
    wait: Histogram,
    /// The lengths of runs that succeeded or snoozed, and of all others.
    run: [Histogram; 2],
}

impl Facade {
    pub(super) fn new(name: &str, queue: &str) -> Self {
        let own = |text: &str| SharedString::from(text.to_owned());
        let labels = || [("task", own(name)), ("queue", own(queue))];
        let with = |label, word: &'static str| {
            [("task", own(name)), ("queue", own(queue)), (label, SharedString::from(word))]
        };
        Self {
            added: SOURCES
                .map(|(_, word)| metrics::counter!("taskflow_tasks_added_total", &with("source", word))),
            retries: metrics::counter!("taskflow_retries_total", &labels()),
            attempts: OUTCOMES
                .map(|(_, word)| metrics::counter!("taskflow_attempts_total", &with("outcome", word))),
            ended: STATUSES
                .map(|(_, word)| metrics::counter!("taskflow_tasks_ended_total", &with("status", word))),
            wait: metrics::histogram!("taskflow_task_wait_seconds", &labels()),
            run: ["ok", "error"]
                .map(|word| metrics::histogram!("taskflow_task_run_seconds", &with("outcome", word))),
        }
    }

    /// Counts an add or a lost run, and ignores every other counter.
    pub(super) fn count(&self, counter: Of) {
        increment(&self.added, &SOURCES, counter);
        if counter == Of::Lost {
            self.attempt(counter, None);
        }
    }

    /// Counts the end of an attempt. `cause` says why it failed, if it did.
    pub(super) fn attempt(&self, counter: Of, cause: Option<Of>) {
        increment(&self.attempts, &OUTCOMES, cause.unwrap_or(counter));
        increment(&self.ended, &STATUSES, counter);
        if counter == Of::Retried {
            self.retries.increment(1);
        }
    }

    pub(super) fn waited(&self, length: Duration) {
        self.wait.record(length);
    }

    pub(super) fn ran(&self, length: Duration, is_ok: bool) {
        self.run[usize::from(!is_ok)].record(length);
    }
}

/// Increments the one of these counters that belongs to `of`, if there is one.
fn increment<const N: usize>(counters: &[Counter; N], words: &Words<N>, of: Of) {
    if let Some((counter, _)) = counters.iter().zip(words).find(|(_, (it, _))| *it == of) {
        counter.increment(1);
    }
}

impl fmt::Debug for Facade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facade").finish_non_exhaustive()
    }
}
