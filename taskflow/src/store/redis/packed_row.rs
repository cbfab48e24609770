//! The packed state and body of a task: the format of `constants.lua`, and the parts that only Rust reads.

use std::collections::BTreeMap;

use crate::model::{AttemptOutcome, InstanceId, NewTask, RetryPolicy, TaskSource, TaskStatus, TraceContext};
use crate::store::prefetch::{Prefetch, prefetch};
use crate::store::transition::{Stage, TaskState};

/// Larger numbers are not exact in Lua.
pub(super) const FOR_EVER: i64 = (1 << 53) - 1;

/// An instant or a duration in microseconds, limited to what is exact: the year 2255.
pub(super) fn exact(micros: i64) -> i64 {
    micros.clamp(-FOR_EVER, FOR_EVER)
}

/// The status of each stage, by its number: five stages are pending (due, later, blocked, lapsed, held), then comes
/// running, then the final ones.
pub(super) const STAGES: [TaskStatus; 11] = [
    TaskStatus::Pending,
    TaskStatus::Pending,
    TaskStatus::Pending,
    TaskStatus::Pending,
    TaskStatus::Pending,
    TaskStatus::Running,
    TaskStatus::Success,
    TaskStatus::Failed,
    TaskStatus::Interrupted,
    TaskStatus::Cancelled,
    TaskStatus::Rejected,
];
pub(super) const HELD: u8 = 4;
pub(super) const RUNNING: u8 = 5;
pub(super) const FAILED: u8 = 7;

/// The stage in which a task ends with this status. A status that is not final counts as `failed`.
pub(super) fn stage_of(status: TaskStatus) -> u8 {
    match status {
        TaskStatus::Success => 6,
        TaskStatus::Interrupted => 8,
        TaskStatus::Cancelled => 9,
        TaskStatus::Rejected => 10,
        _ => FAILED,
    }
}

/// The status of a stage; an unknown stage, of a later version, counts as `failed`.
pub(super) fn status_of(stage: u8) -> TaskStatus {
    STAGES.get(usize::from(stage)).copied().unwrap_or(TaskStatus::Failed)
}

/// The stage as the rules know it.
fn rules_stage(stage: u8) -> Stage {
    match stage {
        HELD => Stage::Held,
        RUNNING => Stage::Running,
        ..HELD => Stage::Waiting,
        ended => Stage::Ended(status_of(ended)),
    }
}

/// The outcomes of runs, in the order of their numbers from 1 on. `constants.lua` knows three of them.
const OUTCOMES: [AttemptOutcome; 9] = [
    AttemptOutcome::Success,
    AttemptOutcome::Failed,
    AttemptOutcome::Panicked,
    AttemptOutcome::TimedOut,
    AttemptOutcome::HandedBack,
    AttemptOutcome::Lost,
    AttemptOutcome::Interrupted,
    AttemptOutcome::Cancelled,
    AttemptOutcome::Snoozed,
];

pub(super) fn outcome_number(outcome: AttemptOutcome) -> u8 {
    let place = OUTCOMES.iter().position(|one| *one == outcome).unwrap_or(1);
    u8::try_from(place + 1).expect("nine outcomes")
}

/// The outcome with that number, 0 for none; an unknown one, of a later version, counts as a failure.
pub(super) fn outcome_of(number: u8) -> Option<AttemptOutcome> {
    let place = usize::from(number).checked_sub(1)?;
    Some(OUTCOMES.get(place).copied().unwrap_or(AttemptOutcome::Failed))
}

pub(super) fn source_number(source: TaskSource) -> u8 {
    match source {
        TaskSource::Manager => 0,
        TaskSource::Request => 1,
        TaskSource::Schedule => 2,
    }
}

/// Which attempts may be prefetched: a value of PREFETCH in `constants.lua`.
pub(super) fn prefetch_number(policy: &RetryPolicy) -> u8 {
    match prefetch(policy) {
        Prefetch::Never => 0,
        Prefetch::BeforeLast if policy.max_attempts() == 1 => 1,
        Prefetch::Always => 2,
        Prefetch::BeforeLast => 3,
    }
}

pub(super) const HAS_KEY: u8 = 1;
pub(super) const HAS_RUN_KEY: u8 = 2;
const HAS_SCHEDULED: u8 = 64;

/// A task, unpacked.
#[derive(Clone, Debug)]
pub(super) struct PackedRow<'a> {
    pub(super) stage: u8,
    pub(super) stop: bool,
    pub(super) outcome: Option<AttemptOutcome>,
    pub(super) lost_runs: u32,
    pub(super) finished_at: i64,
    pub(super) fence: u64,
    pub(super) attempt: u32,
    pub(super) holder: InstanceId,
    /// 0 before the first run.
    pub(super) started_at: i64,
    pub(super) run_at: i64,
    pub(super) max_attempts: u32,
    /// The number of attempts that its policy gives.
    pub(super) tries: u32,
    pub(super) created_at: i64,
    pub(super) scheduled_for: Option<i64>,
    pub(super) log_lines: u32,
    pub(super) log_bytes: u32,
    pub(super) priority: i16,
    pub(super) source: TaskSource,
    pub(super) snoozes: u32,
    pub(super) expires_at: Option<i64>,
    pub(super) concurrency_key: Option<&'a str>,
    pub(super) queue: &'a str,
    pub(super) name: &'a str,
    /// For [`Body::unpack`].
    pub(super) body: &'a [u8],
}

impl<'a> PackedRow<'a> {
    /// The length of the part before `REST_AT`.
    pub(super) const HEAD: usize = 52;

    /// Unpacks a task whose `state` and `task` have been joined.
    pub(super) fn unpack(bytes: &'a [u8]) -> Option<Self> {
        let (head, task) = bytes.split_at_checked(Self::HEAD)?;
        Self::put_together(head, task)
    }

    /// Unpacks a task from the beginning of its `state` and from its `task`.
    pub(super) fn put_together(head: &[u8], task: &'a [u8]) -> Option<Self> {
        let mut at = Unpack(head);
        let (stage, stop, outcome, flags) = (at.u8()?, at.u8()?, at.u8()?, at.u8()?);
        let lost_runs = at.u32()?;
        let finished_at = at.i64()?;
        let fence = at.u64()?;
        let attempt = at.u32()?;
        let holder = InstanceId::from_bytes(at.array()?);
        let started_at = at.i64()?;
        let mut at = Unpack(task);
        let _seq = at.u64()?;
        let (run_at, created_at) = (at.i64()?, at.i64()?);
        let (max_attempts, tries) = (at.u32()?, at.u32()?);
        let scheduled_for = at.i64()?;
        let (log_lines, log_bytes) = (at.u32()?, at.u32()?);
        let priority = i16::from_le_bytes(at.array()?);
        let source = match at.u8()? {
            1 => TaskSource::Request,
            2 => TaskSource::Schedule,
            _ => TaskSource::Manager,
        };
        let (snoozes, _prefetch, expires_at) = (at.u32()?, at.u8()?, at.i64()?);
        let (queue, name) = ready_list_parts(at.word()?)?;
        let concurrency_key = ready_list_parts(at.word()?).map(|(_, key)| key);
        Some(Self {
            stage,
            stop: stop != 0,
            outcome: outcome_of(outcome),
            lost_runs,
            finished_at,
            fence,
            attempt,
            holder,
            started_at,
            run_at,
            max_attempts,
            tries,
            created_at,
            scheduled_for: (flags & HAS_SCHEDULED != 0).then_some(scheduled_for),
            log_lines,
            log_bytes,
            priority,
            source,
            snoozes,
            expires_at: (expires_at != FOR_EVER).then_some(expires_at),
            concurrency_key,
            queue,
            name,
            body: at.0,
        })
    }

    /// The state that the rules need to know.
    pub(super) fn task(&self) -> TaskState {
        TaskState {
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            fence: self.fence,
            lost_runs: self.lost_runs,
            snoozes: self.snoozes,
            cancel_requested: self.stop,
            has_begun: self.started_at != 0,
            run_at: self.run_at,
            expires_at: self.expires_at,
            ..TaskState::of_stage(rules_stage(self.stage))
        }
    }

    /// The same, as far as the beginning of a state says.
    pub(super) fn task_of(head: &[u8]) -> Option<TaskState> {
        let mut at = Unpack(head);
        let (stage, stop, _outcome, _flags) = (at.u8()?, at.u8()?, at.u8()?, at.u8()?);
        let (lost_runs, _finished_at) = (at.u32()?, at.i64()?);
        let (fence, attempt) = (at.u64()?, at.u32()?);
        let (_holder, started_at) = (at.array::<16>()?, at.i64()?);
        let (cancel_requested, has_begun) = (stop != 0, started_at != 0);
        let task = TaskState::of_stage(rules_stage(stage));
        Some(TaskState { attempt, fence, lost_runs, cancel_requested, has_begun, ..task })
    }

    /// The policy as JSON, if only that part of the body was read; `None` if it is not text.
    pub(super) fn policy(&self) -> Option<&'a str> {
        Unpack(self.body).text().map(|policy| without_trace(policy).0)
    }
}

/// The ready list with the claimable tasks of one name in one queue.
pub(super) fn ready_list(queue: &str, name: &str) -> String {
    format!("{}:{queue}{name}", queue.len())
}

/// The tasks of one queue with one concurrency key.
pub(super) fn concurrency_group(queue: &str, key: &str) -> String {
    ready_list(queue, key)
}

/// Appends a ready list or a concurrency group, with its length before it.
pub(super) fn put_word(bytes: &mut Vec<u8>, word: &str) {
    bytes.extend(u16::try_from(word.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(word.as_bytes());
}

/// A key combined with the name of its task, so that tasks of different names never share one.
pub(super) fn key_of(name: &str, key: &str) -> String {
    format!("{}:{name}{key}", name.len())
}

fn ready_list_parts(ready_list: &str) -> Option<(&str, &str)> {
    let (length, rest) = ready_list.split_once(':')?;
    rest.split_at_checked(length.parse().ok()?)
}

/// Between the policy, which has no line break, and the trace.
const TRACE: char = '\n';

/// A policy, and the trace behind it.
fn without_trace(policy: &str) -> (&str, Option<&str>) {
    policy.split_once(TRACE).map_or((policy, None), |(policy, trace)| (policy, Some(trace)))
}

/// Appends policy with trace, tags and arguments; the policy and each tag have their length before them.
pub(super) fn pack_body(body: &mut Vec<u8>, task: &NewTask) {
    let mut policy = match &*task.policy {
        policy if *policy == RetryPolicy::DEFAULT => String::new(),
        policy => serde_json::to_string(policy).expect("numbers and lengths can be written as JSON"),
    };
    if let Some(trace) = &task.trace {
        policy.push(TRACE);
        policy.push_str(&trace.to_stored());
    }
    put(body, &policy);
    body.extend(length(task.tags.len()));
    for (key, value) in &task.tags {
        body.extend(pack_tag(key, value));
    }
    // The code that builds an `InsertTask` has checked the arguments.
    body.extend_from_slice(task.args.as_deref().unwrap_or("null").as_bytes());
}

pub(super) fn pack_tag(key: &str, value: &str) -> Vec<u8> {
    let mut tag = Vec::with_capacity(key.len() + value.len() + 8);
    put(&mut tag, key);
    put(&mut tag, value);
    tag
}

/// A body, unpacked.
pub(super) struct Body<'a> {
    /// As JSON, for [`policy`]; empty for the default.
    pub(super) policy: &'a str,
    pub(super) trace: Option<TraceContext>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) args: &'a str,
}

impl<'a> Body<'a> {
    pub(super) fn unpack(bytes: &'a [u8]) -> Option<Self> {
        let mut at = Unpack(bytes);
        let (policy, trace) = without_trace(at.text()?);
        let mut tags = BTreeMap::new();
        for _ in 0..at.u32()? {
            tags.insert(at.text()?.to_owned(), at.text()?.to_owned());
        }
        let trace = trace.and_then(TraceContext::from_stored);
        Some(Self { policy, trace, tags, args: std::str::from_utf8(at.0).ok()? })
    }

    /// Repairs a body that cannot be read in full: keeps what can be read, and replaces bytes that are not UTF-8.
    pub(super) fn salvage(bytes: &[u8]) -> Vec<u8> {
        let mut at = Unpack(bytes);
        let lossy = |at: &mut Unpack<'_>| {
            let length = usize::try_from(at.u32()?).ok()?;
            Some(String::from_utf8_lossy(at.take(length)?).into_owned())
        };
        let mut body = Vec::new();
        put(&mut body, &lossy(&mut at).unwrap_or_default());
        let mut tags = BTreeMap::new();
        for _ in 0..at.u32().unwrap_or(0) {
            let Some(tag) = lossy(&mut at).zip(lossy(&mut at)) else { break };
            tags.extend([tag]);
        }
        body.extend(length(tags.len()));
        for (key, value) in &tags {
            body.extend(pack_tag(key, value));
        }
        body.extend_from_slice(String::from_utf8_lossy(at.0).as_bytes());
        body
    }
}

/// A stored policy; `None` if it cannot be read, or if no add can have stored it.
pub(super) fn policy(json: &str) -> Option<RetryPolicy> {
    if json.is_empty() {
        return Some(RetryPolicy::DEFAULT);
    }
    serde_json::from_str(json).ok().filter(|policy: &RetryPolicy| policy.check().is_ok())
}

fn put(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(length(text.len()));
    bytes.extend_from_slice(text.as_bytes());
}

pub(super) fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

/// Bytes that are read from the front.
pub(super) struct Unpack<'a>(pub(super) &'a [u8]);

impl<'a> Unpack<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// As [`put_word`] wrote it.
    pub(super) fn word(&mut self) -> Option<&'a str> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// Text with its length before it.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.u32()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }
}
