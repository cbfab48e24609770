//! The tasks that a store inserts, and its answers.

use std::time::Duration;

use crate::model::{InstanceId, NewTask, TaskId};

/// The tasks that one call inserts, for example all adds that arrived while the last write was in flight.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InsertBatch {
    /// The instance that inserts.
    pub instance: InstanceId,
    /// The length of the lease of a run or hold that begins with the insert.
    pub lease: Duration,
    /// The groups to insert. Groups are independent: if one is refused, the others are still inserted.
    pub groups: Vec<InsertGroup>,
}

impl InsertBatch {
    /// A batch of these groups.
    #[must_use]
    pub fn new(instance: InstanceId, lease: Duration, groups: Vec<InsertGroup>) -> Self {
        Self { instance, lease, groups }
    }
}

/// A group of tasks, inserted all or none: one `add_task`, or one `add_all`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InsertGroup {
    /// The tasks, in the order in which they were added.
    pub tasks: Vec<InsertTask>,
}

impl InsertGroup {
    /// A group of these tasks.
    #[must_use]
    pub fn new(tasks: Vec<InsertTask>) -> Self {
        Self { tasks }
    }
}

/// One task to insert.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InsertTask {
    /// The task. Its arguments are `Ok`: the code that builds an `InsertTask` has checked this.
    pub task: NewTask,
    /// How the task begins: waiting, running or held.
    pub start: Start,
    /// The most tasks of its queue that may wait for their first attempt, including this one.
    pub max_size: Option<usize>,
    /// Whether a refusal leaves a record of status `Rejected`. This has no effect in a group of several tasks.
    pub record_rejected: bool,
}

impl InsertTask {
    /// A task that begins as `start` says, in a queue without a `max_size`.
    #[must_use]
    pub fn new(task: NewTask, start: Start) -> Self {
        Self { task, start, max_size: None, record_rejected: false }
    }
}

/// How an inserted task begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Start {
    /// The task is pending.
    Wait,
    /// The task is running at once, leased to the inserting instance under the fence
    /// [`RunRef::FIRST_FENCE`](super::RunRef::FIRST_FENCE). It is pending instead if its queue is paused, if it is not
    /// due yet, if it has expired, or if any due task waits in its queue, because that one is older. In each case the
    /// instance has a free slot and claims by itself, so other instances need no [hint](super::Hint).
    LeaseIfIdle,
    /// As [`LeaseIfIdle`](Self::LeaseIfIdle), but even if due tasks wait in its queue.
    Lease,
    /// The task is pending, and leased to the inserting instance as a *hold*: no instance claims it until this one
    /// releases it or the lease ends.
    Hold,
}

/// The result for one task of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inserted {
    /// The task that stands for the add: the new task, or the one that was there before.
    pub id: TaskId,
    /// How that task relates to the add.
    pub kind: InsertedAs,
}

impl Inserted {
    /// The answer to one add.
    #[must_use]
    pub fn new(id: TaskId, kind: InsertedAs) -> Self {
        Self { id, kind }
    }
}

/// How the task that stands for an add relates to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InsertedAs {
    /// New and pending. Also the answer if the same id was inserted before and its task has changed since.
    Pending,
    /// New, and running at once as attempt 1 under this fence.
    Leased {
        /// The fence of that run.
        fence: u64,
    },
    /// New and held under this fence.
    Held {
        /// The fence of the hold.
        fence: u64,
    },
    /// Another task of this name, which holds the idempotency key. Nothing was stored.
    Duplicate,
    /// A waiting task with the same run key, which now has the arguments, time and options of this add. It keeps its
    /// idempotency key, its source, and its hold if it has one. The add does not hold or lease it again.
    Replaced,
}

impl InsertedAs {
    /// Whether a new row was written.
    #[must_use]
    pub fn is_new(self) -> bool {
        !matches!(self, Self::Duplicate | Self::Replaced)
    }
}

/// Why a group was refused. Nothing of the group is stored, except the record of a rejected task if it was [asked
/// for](InsertTask::record_rejected).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A queue of one of its tasks is full.
    QueueFull {
        /// The queue.
        queue: String,
        /// Its limit.
        max_size: usize,
    },
}

impl Refusal {
    /// The error in the record of a refused task.
    #[must_use]
    pub fn error(&self) -> String {
        match self {
            Self::QueueFull { queue, max_size } => {
                format!("queue `{queue}` was full: {max_size} tasks waited in it")
            }
        }
    }
}
