//! Claims, leases and fences.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::{InstanceId, QueueConfig, RateLimit, RetryPolicy, TaskId, TaskStatus};

/// One run (or hold) of one task: what every write of that run must name.
///
/// The fence is a number that only grows for each task. A write whose fence is no longer the task's, or whose task is
/// no longer running, is *stale* and changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RunRef {
    /// The task.
    pub id: TaskId,
    /// The fence of this run.
    pub fence: u64,
}

impl RunRef {
    /// The fence of a run or hold that begins as its task is inserted. A claim's is greater.
    pub const FIRST_FENCE: u64 = 1;

    /// The run of that task under that fence.
    #[must_use]
    pub fn new(id: TaskId, fence: u64) -> Self {
        Self { id, fence }
    }
}

/// A request for work.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claim {
    /// Who asks.
    pub instance: InstanceId,
    /// How long the claimed runs are good for unless renewed.
    pub lease: Duration,
    /// The names and aliases the instance knows; no other task is given to it.
    pub names: Arc<[Arc<str>]>,
    /// The queues it runs, each with the most it can take from it now. No other queue is looked at.
    pub queues: Vec<ClaimQueue>,
    /// The most it can take in all.
    pub limit: usize,
    /// How many of `limit` would be prefetched: the instance has `limit - prefetch` free slots.
    ///
    /// Tasks come in their order, and those that find no free slot wait in the instance until one is free. So the answer is
    /// the longest beginning of the order in which every task beyond the free slots may wait:
    /// [`RetryPolicy::may_prefetch`] holds for it, and its queue allows it ([`ClaimQueue::prefetch`]). It ends at the first
    /// that may not, and [`Claims::needs_slot`] says so: none is passed over for a younger or less urgent one.
    pub prefetch: usize,
    /// What all processes together may take from these queues; queues without such limits are not named. See
    /// [`SharedLimits`].
    pub limits: Arc<[(Arc<str>, SharedLimits)]>,
}

/// A queue from which a [`Claim`] takes tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimQueue {
    /// The queue.
    pub name: Arc<str>,
    /// The most the instance can take from it now.
    pub limit: usize,
    /// Whether its tasks may be prefetched: not where a task that waits in the instance would use up a limit of the queue.
    pub prefetch: bool,
}

impl ClaimQueue {
    /// A queue whose tasks may be prefetched.
    #[must_use]
    pub fn new(name: Arc<str>, limit: usize) -> Self {
        Self { name, limit, prefetch: true }
    }
}

/// Limits of one queue over all processes. They are in the request since the process that asks knows what its program and
/// the store say of the queue; that they hold against every other process is up to the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedLimits {
    /// So many of its tasks run at once.
    pub global_concurrency: Option<usize>,
    /// So many of its tasks of one concurrency key run at once.
    pub key_concurrency: Option<usize>,
    /// So often its tasks start; see [`StartWindow`](super::StartWindow).
    pub rate_limit: Option<RateLimit>,
}

impl SharedLimits {
    /// What a configuration asks of all processes together.
    #[must_use]
    pub fn of(config: &QueueConfig) -> Self {
        Self {
            global_concurrency: config.global_concurrency,
            key_concurrency: config.key_concurrency,
            rate_limit: config.rate_limit,
        }
    }

    /// Whether there is any.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

impl Claim {
    /// A request for up to `limit` tasks, each of which finds a free slot.
    #[must_use]
    pub fn new(
        instance: InstanceId,
        lease: Duration,
        names: Arc<[Arc<str>]>,
        queues: Vec<(Arc<str>, usize)>,
        limit: usize,
    ) -> Self {
        let queues = queues.into_iter().map(|(name, limit)| ClaimQueue::new(name, limit)).collect();
        Self { instance, lease, names, queues, limit, prefetch: 0, limits: Arc::from([]) }
    }

    /// How many of its tasks find a free slot.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.limit.saturating_sub(self.prefetch)
    }
}

/// The answer to a [`Claim`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Claims {
    /// The claimed tasks: highest priority first, then oldest.
    pub tasks: Vec<Claimed>,
    /// When the earliest task of these names and queues that is pending but not due (or held) will be; `None` if there is
    /// none, or if a limit of the request was reached so that the instance will ask again anyway.
    pub next_due: Option<Duration>,
    /// Whether the answer ended at a due task that may not be prefetched: the instance asks again when it has a free slot.
    pub needs_slot: bool,
}

/// A task this instance is to run, with all that running it takes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claimed {
    /// The run.
    pub run: RunRef,
    /// The name (or alias) it was added under.
    pub name: Arc<str>,
    /// Its queue.
    pub queue: Arc<str>,
    /// Its arguments: a JSON object keyed by parameter name.
    pub args: Arc<str>,
    /// Its labels.
    pub tags: BTreeMap<String, String>,
    /// The number of this attempt.
    pub attempt: u32,
    /// The number of the last possible attempt.
    pub max_attempts: u32,
    /// What it said about being tried again.
    pub policy: Arc<RetryPolicy>,
    /// The instant it was meant for, if one was given.
    pub scheduled_for: Option<SystemTime>,
    /// How long after the claim it may still begin, by the store's clock; `None` without an `expires_at`.
    pub expires_in: Option<Duration>,
    /// How often it has been snoozed.
    pub snoozes: u32,
    /// Log lines its earlier attempts left.
    pub log_lines: u32,
    /// Bytes of message in those lines.
    pub log_bytes: u32,
}

impl Claimed {
    /// The first run of a task with these arguments; the other fields are public.
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

    /// Whether it runs again if this run is lost.
    #[must_use]
    pub fn may_run_again(&self) -> bool {
        self.policy.requeue_on_interrupt || self.attempt < self.max_attempts
    }
}

/// The leases of one instance that are to be renewed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Renewal {
    /// Whose.
    pub instance: InstanceId,
    /// For how long from now.
    pub lease: Duration,
    /// Its runs and holds.
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
    /// Runs and holds that are no longer this instance's.
    pub lost: Vec<RunRef>,
    /// Runs that have been asked to stop.
    pub cancel: Vec<RunRef>,
}

/// A task that has been moved on: its run was lost, its hold ended with its process, or its time to start is over.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recovered {
    /// The task.
    pub id: TaskId,
    /// Its name.
    pub name: Arc<str>,
    /// What it is now.
    pub status: TaskStatus,
    /// Why, if it has ended.
    pub error: Option<String>,
    /// What it was before.
    pub from: RecoveredFrom,
}

/// What a recovered task was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoveredFrom {
    /// A run, which was lost.
    Run,
    /// A hold: nothing was lost, it waits now as it would have.
    Hold,
    /// Pending beyond the instant until which it could be started: it is cancelled.
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

    /// The error of a task that was not started in time.
    pub const EXPIRED: &'static str = "expired: it was not to be started later than its expires_at";
}
