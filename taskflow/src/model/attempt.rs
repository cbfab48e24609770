//! One run of a task and its outcome.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{InstanceId, time};

/// One run of a task: the process that ran it, its start and end, and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attempt {
    /// 1 for the first attempt. An attempt that does not count (snoozed, handed
    /// back, or lost by a task with `requeue_on_interrupt`) shares its number with the next one.
    pub number: u32,
    /// The instance (one start of one process) that ran it.
    pub instance: InstanceId,
    /// The host name of the machine it ran on; empty if the store no longer knows the instance.
    pub host: String,
    /// The process id on that machine; 0 if the store no longer knows the instance.
    pub pid: u32,
    /// When it started.
    #[serde(with = "time::rfc3339_serde")]
    pub started_at: SystemTime,
    /// When it ended or was found to be lost; `None` while it runs.
    #[serde(with = "time::rfc3339_option")]
    pub finished_at: Option<SystemTime>,
    /// Its outcome.
    pub outcome: AttemptOutcome,
    /// The error with its whole chain of causes; `None` if there was none.
    pub error: Option<String>,
}

impl Attempt {
    /// An attempt without host, process id, end and error; a store sets these fields afterwards.
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

/// The outcome of one run of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// The attempt has not ended.
    Running,
    /// The function returned `()` or `Ok`.
    Success,
    /// The function returned an error, its arguments did not decode, or its result could not be stored.
    Failed,
    /// The function panicked.
    Panicked,
    /// It ran longer than its `timeout`.
    TimedOut,
    /// Its process died, left, or did not renew its lease in time; or, on a server, other processes could not see for 2.5 s
    /// that it was alive, and the task may run twice ("worker lost").
    Lost,
    /// It was given back because of a shutdown, or because its lease or its liveness was in doubt. The task went back to the
    /// queue; the attempt does not count. Spans and middleware also call an attempt so that never began, for example because
    /// no thread could be started for it; the record of the task does not list those.
    HandedBack,
    /// A shutdown, or a lease that could not be renewed, interrupted it, and the task may not run twice.
    Interrupted,
    /// A cancel request stopped it.
    Cancelled,
    /// It asked to run later ([`TaskError::snooze`](crate::TaskError::snooze)). The attempt does not count.
    Snoozed,
}

impl AttemptOutcome {
    /// The word used in JSON, stores, spans and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
            Self::HandedBack => "handed_back",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
            Self::Snoozed => "snoozed",
        }
    }
}
