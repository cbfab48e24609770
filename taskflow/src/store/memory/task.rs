//! One task as this store keeps it in memory.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::model::{
    Attempt, AttemptOutcome, InstanceId, LogLine, NewTask, Progress, RetryPolicy, TaskId, TaskRecord,
    TaskSource, TaskStatus, TraceContext, time,
};
use crate::store::RunRef;
use crate::store::transition::{Change, EndedRun, ErrorChange, Stage as To, TaskState};

/// A row. Instants are microseconds since the epoch.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) id: TaskId,
    /// Its place in the order of first inserts, and so among tasks of equal priority.
    pub(super) seq: u64,
    /// The index of its ready list, which gives its name and queue.
    pub(super) ready_list: usize,
    pub(super) priority: i16,
    pub(super) args: Arc<str>,
    pub(super) source: TaskSource,
    pub(super) policy: Arc<RetryPolicy>,
    pub(super) stage: Stage,
    /// The greatest fence that the task ever had.
    pub(super) fence: u64,
    pub(super) attempt: u32,
    pub(super) max_attempts: u32,
    /// The number of lost runs in a row.
    pub(super) lost_runs: u32,
    pub(super) past: Vec<Past>,
    pub(super) created_at: i64,
    pub(super) run_at: i64,
    pub(super) result: Option<Box<str>>,
    pub(super) rare: Rare,
    /// When its last attempt began.
    pub(super) started_at: Option<i64>,
}

/// How much of a record to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Whole,
    /// Without the parts that may be large.
    Outline,
}

/// The fields that most tasks do not use. They take no memory until one of them is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Rare(Option<Box<Extra>>);

#[derive(Clone, Debug)]
pub(super) struct Extra {
    pub(super) tags: BTreeMap<String, String>,
    pub(super) trace: Option<TraceContext>,
    pub(super) idempotency_key: Option<Arc<str>>,
    pub(super) run_key: Option<Arc<str>>,
    pub(super) concurrency_key: Option<Arc<str>>,
    pub(super) scheduled_for: Option<i64>,
    pub(super) expires_at: Option<i64>,
    pub(super) snoozes: u32,
    pub(super) error: Option<String>,
    pub(super) progress: Option<Progress>,
    pub(super) lines: Vec<LogLine>,
    pub(super) log_bytes: u32,
}

impl Extra {
    const NOTHING: Self = Self {
        tags: BTreeMap::new(),
        trace: None,
        idempotency_key: None,
        run_key: None,
        concurrency_key: None,
        scheduled_for: None,
        expires_at: None,
        snoozes: 0,
        error: None,
        progress: None,
        lines: Vec::new(),
        log_bytes: 0,
    };
}

impl Rare {
    /// The rare fields of a new task.
    pub(super) fn of(new: &NewTask, scheduled_for: Option<i64>) -> Self {
        let has_any = scheduled_for.is_some()
            || new.expires_at.is_some()
            || new.idempotency_key.is_some()
            || new.run_key.is_some()
            || new.concurrency_key.is_some()
            || new.trace.is_some()
            || !new.tags.is_empty();
        let extra = || Extra {
            tags: new.tags.clone(),
            trace: new.trace.clone(),
            idempotency_key: new.idempotency_key.as_deref().map(Arc::from),
            run_key: new.run_key.as_deref().map(Arc::from),
            concurrency_key: new.concurrency_key.as_deref().map(Arc::from),
            scheduled_for,
            expires_at: new.expires_at.map(time::to_micros),
            ..Extra::NOTHING
        };
        Self(has_any.then(extra).map(Box::new))
    }

    /// The fields, if any of them was ever written.
    pub(super) fn existing(&mut self) -> Option<&mut Extra> {
        self.0.as_deref_mut()
    }
}

impl Deref for Rare {
    type Target = Extra;

    fn deref(&self) -> &Extra {
        static NOTHING: Extra = Extra::NOTHING;
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Rare {
    fn deref_mut(&mut self) -> &mut Extra {
        self.0.get_or_insert_with(|| Box::new(Extra::NOTHING))
    }
}

/// The stage of a task, with the data of that stage.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    Pending,
    Held(Lease),
    Running { lease: Lease, stop: bool },
    Ended { status: TaskStatus, at: i64 },
}

impl Stage {
    pub(super) fn status(&self) -> TaskStatus {
        match self {
            Self::Pending | Self::Held(_) => TaskStatus::Pending,
            Self::Running { .. } => TaskStatus::Running,
            Self::Ended { status, .. } => *status,
        }
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Held(lease) | Self::Running { lease, .. } => Some(lease),
            Self::Pending | Self::Ended { .. } => None,
        }
    }

    pub(super) fn lease_mut(&mut self) -> Option<&mut Lease> {
        match self {
            Self::Held(lease) | Self::Running { lease, .. } => Some(lease),
            Self::Pending | Self::Ended { .. } => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) holder: Arc<LeaseHolder>,
    pub(super) until: i64,
}

/// The identity of an instance. The attempts that it made keep it after the instance is gone.
#[derive(Debug)]
pub(super) struct LeaseHolder {
    pub(super) id: InstanceId,
    pub(super) host: String,
    pub(super) pid: u32,
}

/// A run that has ended.
#[derive(Clone, Debug)]
pub(super) struct Past {
    number: u32,
    holder: Arc<LeaseHolder>,
    started_at: i64,
    finished_at: i64,
    outcome: AttemptOutcome,
    error: Option<String>,
}

impl Task {
    /// Whether the task waits for its first attempt. `max_size` counts such tasks, and an add with the same run key
    /// replaces them.
    pub(super) fn waits_for_first(&self) -> bool {
        self.attempt == 0 && self.stage.status() == TaskStatus::Pending
    }

    /// Whether its `expires_at` has passed, so that it may no longer be started.
    pub(super) fn has_expired(&self, now: i64) -> bool {
        self.rare.expires_at.is_some_and(|at| at <= now)
    }

    pub(super) fn is_running_under(&self, fence: u64) -> bool {
        self.fence == fence && matches!(self.stage, Stage::Running { .. })
    }

    /// The state of the task, for the task state machine.
    pub(super) fn state(&self) -> TaskState {
        TaskState {
            stage: match self.stage {
                Stage::Pending => To::Waiting,
                Stage::Held(_) => To::Held,
                Stage::Running { .. } => To::Running,
                Stage::Ended { status, .. } => To::Ended(status),
            },
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            fence: self.fence,
            lost_runs: self.lost_runs,
            snoozes: self.rare.snoozes,
            cancel_requested: self.asked_to_stop(),
            has_begun: self.started_at.is_some(),
            run_at: self.run_at,
            expires_at: self.rare.expires_at,
        }
    }

    /// Applies a change that the task state machine decided.
    pub(super) fn apply(&mut self, change: &Change<'_>, now: i64) {
        let next = &change.next;
        if let Some(run) = &change.ended_run {
            self.record(run, now);
        }
        match next.stage {
            To::Waiting => self.stage = Stage::Pending,
            To::Ended(status) => self.stage = Stage::Ended { status, at: now },
            // A transition never begins a hold or a run; here it can only request a stop.
            To::Held | To::Running => {
                if let Stage::Running { stop, .. } = &mut self.stage {
                    *stop = next.cancel_requested;
                }
            }
        }
        self.attempt = next.attempt;
        self.max_attempts = next.max_attempts;
        self.fence = next.fence;
        self.lost_runs = next.lost_runs;
        self.run_at = next.run_at;
        if let Some(result) = change.result {
            self.result = Some(result.into());
        }
        // Write only what changes, so that most tasks need no memory for these fields.
        if next.snoozes != self.rare.snoozes {
            self.rare.snoozes = next.snoozes;
        }
        if next.expires_at != self.rare.expires_at {
            self.rare.expires_at = next.expires_at;
        }
        match &change.error {
            ErrorChange::Set(error) => self.rare.error = Some(error.as_ref().to_owned()),
            ErrorChange::Clear if self.rare.error.is_some() => self.rare.error = None,
            ErrorChange::Clear | ErrorChange::Keep => {}
        }
        if let Some(extra) = self.rare.existing().filter(|_| change.reopens) {
            extra.progress = None;
        }
    }

    pub(super) fn asked_to_stop(&self) -> bool {
        matches!(self.stage, Stage::Running { stop: true, .. })
    }

    /// Gives the task its next fence.
    pub(super) fn next_run(&mut self) -> RunRef {
        self.fence += 1;
        RunRef::new(self.id, self.fence)
    }

    /// Begins the next attempt of the task.
    pub(super) fn start(&mut self, lease: Lease, now: i64) -> RunRef {
        self.attempt += 1;
        self.started_at = Some(now);
        if let Some(extra) = self.rare.existing() {
            extra.progress = None;
        }
        self.stage = Stage::Running { lease, stop: false };
        self.next_run()
    }

    /// Records the current run as an attempt that ended now.
    fn record(&mut self, run: &EndedRun<'_>, now: i64) {
        let Some(lease) = self.stage.lease() else { return };
        // Most tasks have only one attempt: reserve no spare capacity.
        self.past.reserve_exact(1);
        self.past.push(Past {
            number: self.attempt,
            holder: Arc::clone(&lease.holder),
            started_at: self.started_at.unwrap_or(now),
            finished_at: now,
            outcome: run.outcome,
            error: run.error.map(str::to_owned),
        });
    }

    /// The number of lines that the task has logged.
    pub(super) fn log_lines(&self) -> u32 {
        u32::try_from(self.rare.lines.len()).unwrap_or(u32::MAX)
    }

    /// Stores progress and log lines of the run.
    pub(super) fn append_report(&mut self, progress: Option<&Progress>, lines: &[LogLine]) {
        if let Some(progress) = progress {
            self.rare.progress = Some(progress.clone());
        }
        if !lines.is_empty() {
            let bytes: usize = lines.iter().map(|line| line.message.len()).sum();
            let extra = &mut *self.rare;
            extra.lines.extend_from_slice(lines);
            extra.log_bytes = extra.log_bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }

    pub(super) fn to_record(&self, name: &str, queue: &str, detail: Detail) -> TaskRecord {
        let is_whole = detail == Detail::Whole;
        TaskRecord {
            id: self.id,
            name: name.to_owned(),
            queue: queue.to_owned(),
            status: self.stage.status(),
            priority: self.priority,
            args: raw(if is_whole { &self.args } else { "null" }),
            tags: self.rare.tags.clone(),
            idempotency_key: self.rare.idempotency_key.as_deref().map(str::to_owned),
            run_key: self.rare.run_key.as_deref().map(str::to_owned),
            concurrency_key: self.rare.concurrency_key.as_deref().map(str::to_owned),
            source: self.source,
            trace: self.rare.trace.clone(),
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            attempts: if is_whole { self.attempts() } else { Vec::new() },
            created_at: time::from_micros(self.created_at),
            run_at: time::from_micros(self.run_at),
            scheduled_for: self.rare.scheduled_for.map(time::from_micros),
            expires_at: self.rare.expires_at.map(time::from_micros),
            timeout: self.policy.timeout,
            snoozes: self.rare.snoozes,
            started_at: self.started_at.map(time::from_micros),
            finished_at: match self.stage {
                Stage::Ended { at, .. } => Some(time::from_micros(at)),
                _ => None,
            },
            error: self.rare.error.clone(),
            result: self.result.as_deref().filter(|_| is_whole).map(raw),
            progress: self.rare.progress.clone().filter(|_| is_whole),
            cancel_requested: self.asked_to_stop(),
        }
    }

    fn attempts(&self) -> Vec<Attempt> {
        let mut attempts: Vec<Attempt> = self.past.iter().map(Past::to_attempt).collect();
        if let Stage::Running { lease, .. } = &self.stage {
            let started_at = self.started_at.unwrap_or(self.run_at);
            let running = AttemptOutcome::Running;
            attempts.push(attempt(self.attempt, &lease.holder, started_at, running));
        }
        attempts
    }
}

impl Past {
    fn to_attempt(&self) -> Attempt {
        Attempt {
            finished_at: Some(time::from_micros(self.finished_at)),
            error: self.error.clone(),
            ..attempt(self.number, &self.holder, self.started_at, self.outcome)
        }
    }
}

fn attempt(number: u32, holder: &LeaseHolder, started_at: i64, outcome: AttemptOutcome) -> Attempt {
    let host = holder.host.clone();
    Attempt {
        host,
        pid: holder.pid,
        ..Attempt::new(number, holder.id, time::from_micros(started_at), outcome)
    }
}

/// Text that should be JSON, as JSON. Text that is not JSON becomes a JSON string, because a record must always be
/// readable.
fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned())
        .or_else(|_| serde_json::value::to_raw_value(json))
        .expect("a string can be written as JSON")
}
