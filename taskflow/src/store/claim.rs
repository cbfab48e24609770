//! Claims, leases and fences.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::claim_queues::{ClaimQueue, ClaimQueues, SharedLimits};
use crate::model::{InstanceId, RetryPolicy, TaskId, TaskStatus, TraceContext};

/// The identity of one run, or one hold, of a task. Every write of that run must name it.
///
/// The fence is a number that only grows for each task. A write is *stale* and changes nothing if its fence is no
/// longer the task's, or if the task is no longer running (for a hold: no longer held).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RunRef {
    /// The task.
    pub id: TaskId,
    /// The fence of this run.
    pub fence: u64,
}

impl RunRef {
    /// The fence of a run or hold that begins when its task is inserted. The fence of a claim is greater.
    pub const FIRST_FENCE: u64 = 1;

    /// The run of the task `id` under `fence`.
    #[must_use]
    pub fn new(id: TaskId, fence: u64) -> Self {
        Self { id, fence }
    }
}

/// A request of an instance for tasks to run, for [`Store::claim`](super::Store::claim).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claim {
    /// The instance that asks.
    pub instance: InstanceId,
    /// The length of the leases. A run whose lease is not [renewed](Renewal) in this time is lost.
    pub lease: Duration,
    /// The task names and aliases that the instance knows. The store gives it no other task.
    pub names: Arc<[Arc<str>]>,
    /// The queues that the instance works on, each with the most tasks it can take from it now, and with its limits over
    /// all processes. The store looks at no other queue.
    pub queues: ClaimQueues,
    /// The most tasks that the instance can take in all.
    pub limit: usize,
    /// How many of `limit` the instance would prefetch: it has `limit - prefetch` free slots.
    ///
    /// Tasks are claimed in their usual order. Those that find no free slot wait in the instance until a slot is free.
    /// So the answer is the longest prefix of that order in which every task beyond the free slots may be prefetched:
    /// its policy allows it ([`RetryPolicy::may_prefetch`]) and its queue allows it ([`ClaimQueue::prefetch`]). The
    /// answer ends at the first task that may not be prefetched, and [`Claims::needs_slot`] is set: the claim passes
    /// over no task in favour of a younger or less urgent one.
    pub prefetch: usize,
}

impl Claim {
    /// A request for up to `limit` tasks. The instance has a free slot for each of them.
    #[must_use]
    pub fn new(
        instance: InstanceId,
        lease: Duration,
        names: Arc<[Arc<str>]>,
        queues: Vec<(Arc<str>, usize)>,
        limit: usize,
    ) -> Self {
        let queues = queues.into_iter().map(|(name, limit)| ClaimQueue::new(name, limit)).collect();
        Self::of(instance, lease, names, queues, limit)
    }

    /// A request for up to `limit` tasks of these queues. The instance has a free slot for each of them.
    #[must_use]
    pub fn of(
        instance: InstanceId,
        lease: Duration,
        names: Arc<[Arc<str>]>,
        queues: ClaimQueues,
        limit: usize,
    ) -> Self {
        Self { instance, lease, names, queues, limit, prefetch: 0 }
    }

    /// The same request with these limits of one of its queues over all processes.
    #[must_use]
    pub fn with_limits(mut self, queue: &str, limits: SharedLimits) -> Self {
        let change = |mut asked: ClaimQueue| {
            if *asked.name == *queue {
                asked.shared = limits;
            }
            asked
        };
        self.queues = self.queues.iter().map(change).collect();
        self
    }

    /// The number of free slots: `limit - prefetch`.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.limit.saturating_sub(self.prefetch)
    }
}

/// The answer to a [`Claim`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Claims {
    /// The claimed tasks: highest priority first, then oldest first.
    pub tasks: Vec<Claimed>,
    /// When to ask again: how long until the earliest task of these names and queues that is not due yet and not held
    /// will be due, or until a rate limit lets another task start. It may be shorter, because a store limits how many
    /// tasks one claim examines. `None` if there is no such task and no such limit, or if a limit of the request was
    /// reached, so that the instance will ask again anyway.
    pub next_due: Option<Duration>,
    /// Whether the answer ended at a due task that may not be prefetched. The instance then asks again when it has a
    /// free slot.
    pub needs_slot: bool,
}

/// A claimed task, with everything that the instance needs to run it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claimed {
    /// The run.
    pub run: RunRef,
    /// The name or alias under which the task was added.
    pub name: Arc<str>,
    /// Its queue.
    pub queue: Arc<str>,
    /// Its arguments: a JSON object keyed by parameter name.
    pub args: Arc<str>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The trace that it was added in.
    pub trace: Option<TraceContext>,
    /// The number of this attempt.
    pub attempt: u32,
    /// The number of the last attempt that it may make.
    pub max_attempts: u32,
    /// Its retry policy.
    pub policy: Arc<RetryPolicy>,
    /// The instant for which it was scheduled, if one was given.
    pub scheduled_for: Option<SystemTime>,
    /// How long after the claim its run may still begin, by the store's clock; `None` without an `expires_at`.
    pub expires_in: Option<Duration>,
    /// How often the task has been snoozed.
    pub snoozes: u32,
    /// Number of log lines that its earlier attempts left.
    pub log_lines: u32,
    /// Total bytes of the messages of those lines.
    pub log_bytes: u32,
}

impl Claimed {
    /// The first run of a task with these arguments. The other fields have defaults, and are public.
    #[must_use]
    pub fn new(
        run: RunRef,
        name: Arc<str>,
        queue: Arc<str>,
        args: Arc<str>,
        policy: Arc<RetryPolicy>,
    ) -> Self {
        Self {
            run,
            name,
            queue,
            args,
            tags: BTreeMap::new(),
            trace: None,
            attempt: 1,
            max_attempts: policy.max_attempts(),
            policy,
            scheduled_for: None,
            expires_in: None,
            snoozes: 0,
            log_lines: 0,
            log_bytes: 0,
        }
    }

    /// Whether the retry policy lets the task run again if this run is lost. This considers neither `max_lost_runs` nor a
    /// request to stop.
    #[must_use]
    pub fn may_run_again(&self) -> bool {
        self.policy.requeue_on_interrupt || self.attempt < self.max_attempts
    }
}

/// A request to renew leases of one instance.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Renewal {
    /// The instance that holds the leases.
    pub instance: InstanceId,
    /// The new length of the leases, from now.
    pub lease: Duration,
    /// The runs and holds to renew.
    pub runs: Vec<RunRef>,
}

impl Renewal {
    /// A renewal of these runs and holds.
    #[must_use]
    pub fn new(instance: InstanceId, lease: Duration, runs: Vec<RunRef>) -> Self {
        Self { instance, lease, runs }
    }
}

/// The answer to a [`Renewal`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Renewed {
    /// Runs and holds that this instance no longer has.
    pub lost: Vec<RunRef>,
    /// Runs that have been asked to stop.
    pub cancel: Vec<RunRef>,
}

/// A task that [`Store::recover`](super::Store::recover) moved on: its run was lost, its hold ended without a
/// release, or its `expires_at` has passed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recovered {
    /// The task.
    pub id: TaskId,
    /// Its name.
    pub name: Arc<str>,
    /// Its status now.
    pub status: TaskStatus,
    /// Its error, if it has ended.
    pub error: Option<String>,
    /// Its state before the recovery.
    pub from: RecoveredFrom,
}

/// The state of a recovered task before the recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoveredFrom {
    /// Running; the run was lost.
    Run,
    /// Held. Nothing was lost: the task now waits until it is due.
    Hold,
    /// Pending past its `expires_at`: the task is cancelled.
    Expiry,
}

impl Recovered {
    /// A task whose run was lost.
    #[must_use]
    pub fn new(id: TaskId, name: Arc<str>, status: TaskStatus, error: Option<String>) -> Self {
        Self { id, name, status, error, from: RecoveredFrom::Run }
    }

    /// A task that was held.
    #[must_use]
    pub fn from_hold(id: TaskId, name: Arc<str>) -> Self {
        Self { id, name, status: TaskStatus::Pending, error: None, from: RecoveredFrom::Hold }
    }

    /// A task that had expired.
    #[must_use]
    pub fn from_expiry(id: TaskId, name: Arc<str>) -> Self {
        let error = Some(Self::EXPIRED.to_owned());
        Self { id, name, status: TaskStatus::Cancelled, error, from: RecoveredFrom::Expiry }
    }

    /// The error of a task that was not started before its `expires_at`.
    pub const EXPIRED: &'static str = "expired: it was not to be started later than its expires_at";
}
