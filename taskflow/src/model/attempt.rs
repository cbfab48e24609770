//! One run of a task, and how it went.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{InstanceId, time};

/// One run of a task: who ran it, when, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attempt {
    /// 1 for the first. An attempt that was not counted (handed back, snoozed) shares its number with the next.
    pub number: u32,
    /// The process start that ran it.
    pub instance: InstanceId,
    /// The name of the machine it ran on; empty if the store no longer knows that instance.
    pub host: String,
    /// The process id on that machine; 0 if the store no longer knows that instance.
    pub pid: u32,
    /// When it was started.
    #[serde(with = "time::rfc3339_serde")]
    pub started_at: SystemTime,
    /// When it ended, or was found lost; `None` while it runs.
    #[serde(with = "time::rfc3339_option")]
    pub finished_at: Option<SystemTime>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// What went wrong, with the whole chain of causes.
    pub error: Option<String>,
}

impl Attempt {
    /// An attempt as a store knows it.
    #[must_use]
    pub fn new(number: u32, instance: InstanceId, started_at: SystemTime, outcome: AttemptOutcome) -> Self {
        Self {
            number,
            instance,
            host: String::new(),
            pid: 0,
            started_at,
            finished_at: None,
            outcome,
            error: None,
        }
    }
}

/// How one run of a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// It has not ended.
    Running,
    /// The function returned `()` or `Ok`.
    Success,
    /// The function returned an error, its arguments did not decode, or its result could not be kept.
    Failed,
    /// The function panicked.
    Panicked,
    /// It took longer than its `timeout`.
    TimedOut,
    /// Its process died, or stood still past its lease ("worker lost").
    Lost,
    /// A shutdown cut it short or came before its start, and it went back to the queue uncounted.
    HandedBack,
    /// A shutdown cut it short, and the task never said that it may run twice.
    Interrupted,
    /// It was cancelled on request.
    Cancelled,
    /// It asked to be run later ([`TaskError::snooze`](crate::TaskError::snooze)), uncounted.
    Snoozed,
}
