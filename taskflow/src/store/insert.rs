//! What is given to a store to keep, and what it answers.

use std::time::Duration;

use crate::model::{InstanceId, NewTask, TaskId};

/// The adds that came together while the last write was in flight: one round trip, one transaction.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InsertBatch {
    /// Who inserts.
    pub instance: InstanceId,
    /// How long a run or a hold that begins with the insert is good for.
    pub lease: Duration,
    /// What to insert. Groups do not know of each other: one that is refused takes no other with it.
    pub groups: Vec<InsertGroup>,
}

impl InsertBatch {
    /// A batch of these groups.
    #[must_use]
    pub fn new(instance: InstanceId, lease: Duration, groups: Vec<InsertGroup>) -> Self {
        Self { instance, lease, groups }
    }
}

/// Tasks that are inserted all or not at all: one `add_task`, or one `add_all`.
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
    /// The task. Its arguments are `Ok`: whoever makes an `InsertTask` has checked it.
    pub task: NewTask,
    /// How its life begins.
    pub start: Start,
    /// At most so many tasks of its queue may wait for their first attempt, this one included.
    pub max_size: Option<usize>,
    /// Whether it leaves a record of status `Rejected` if it is refused, unless it came in a group of several.
    pub record_rejected: bool,
}

impl InsertTask {
    /// A task whose life begins so, in a queue without a limit.
    #[must_use]
    pub fn new(task: NewTask, start: Start) -> Self {
        Self { task, start, max_size: None, record_rejected: false }
    }
}

/// How the life of an inserted task begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Start {
    /// It is pending.
    Wait,
    /// It is running from the start, leased to the inserting instance under the fence
    /// [`RunRef::FIRST_FENCE`](super::RunRef::FIRST_FENCE). It is pending instead if its queue is paused, if it is not due yet, or
    /// if any due task waits in its queue: that one is older or more urgent.
    LeaseIfIdle,
    /// The same, except that it does not matter which tasks wait in its queue.
    Lease,
    /// It is pending, and leased to the inserting instance as a *hold*: nobody claims it until the instance releases
    /// it or the lease ends.
    Hold,
}

/// What became of one task of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inserted {
    /// The task that stands for the add: the new one, or the one that was there.
    pub id: TaskId,
    /// What it is to the add.
    pub kind: InsertedAs,
}

impl Inserted {
    /// The answer to one add.
    #[must_use]
    pub fn new(id: TaskId, kind: InsertedAs) -> Self {
        Self { id, kind }
    }
}

/// What the task that stands for an add is to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InsertedAs {
    /// New and pending. Also the answer when the same id was inserted before and has moved on.
    Pending,
    /// New, and running from the start as attempt 1 under this fence.
    Leased {
        /// The fence of that run.
        fence: u64,
    },
    /// New and held under this fence.
    Held {
        /// The fence of the hold.
        fence: u64,
    },
    /// Another task of this name that holds the idempotency key; nothing was stored.
    Duplicate,
    /// A waiting task with the same run key, which now has this one's arguments, time and options. It keeps its
    /// idempotency key, its source, and a hold if it has one; it is not held or leased anew.
    Replaced,
}

impl InsertedAs {
    /// Whether a row was written that was not there before.
    #[must_use]
    pub fn is_new(self) -> bool {
        !matches!(self, Self::Duplicate | Self::Replaced)
    }
}

/// Why a group was refused. Nothing of it is stored, but for the record of a rejected task that was asked for.
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
    /// What the record of a refused task says.
    #[must_use]
    pub fn error(&self) -> String {
        match self {
            Self::QueueFull { queue, max_size } => {
                format!("queue `{queue}` was full: {max_size} tasks waited in it")
            }
        }
    }
}
