//! One call of `add_task` or `add_all` on its way to the store.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::engine::holds::HoldOwner;
use crate::engine::slots::Permit;
use crate::model::{AddError, NewTask, StoreError, TaskId};
use crate::seam::Instant;
use crate::store::{InsertGroup, Inserted};

/// The answer to an add: what was inserted, or found in its place, for each task in order.
pub(crate) type Answer = Result<Vec<Inserted>, AddError>;

/// One call of `add_task` or `add_all` on its way to the store.
#[derive(Debug)]
pub(super) struct Group {
    /// Empty while the tasks are being written.
    pub(super) tasks: InsertGroup,
    /// The id of the first task. It identifies an add whose answer was lost.
    pub(super) id: TaskId,
    pub(super) size: Size,
    pub(super) permits: Permits,
    /// Until when the caller waits for the write to begin.
    pub(super) deadline: Instant,
    /// When the first write that may have stored it was sent; `None` if there is none.
    pub(super) sent_at: Option<Instant>,
    /// An error left it unknown whether the tasks are stored.
    pub(super) in_doubt: bool,
    /// Whether the add was announced with `Events::adding`, so that its outcome must be passed to `Events::added`.
    pub(super) announced: bool,
    /// The owner that releases the held tasks of this group.
    pub(super) hold_owner: Option<Arc<dyn HoldOwner>>,
    /// Set until the caller has been answered.
    pub(super) reply: Option<oneshot::Sender<Answer>>,
}

impl Group {
    /// Answers the caller, if it still waits. Stored tasks stay stored either way.
    pub(super) fn answer(&mut self, answer: Answer) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(answer);
        }
    }

    /// The error for the caller. It says whether the tasks may be stored.
    pub(super) fn error(&self, error: StoreError) -> AddError {
        if self.in_doubt { AddError::Unknown { id: self.id, source: error } } else { AddError::Store(error) }
    }

    /// Whether the caller still waits for the answer.
    pub(super) fn is_awaited(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }
}

/// The size of a write.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) tasks: usize,
    /// The approximate size in memory.
    pub(super) bytes: usize,
}

impl Size {
    /// The bytes of a task beside its arguments and tags.
    const AROUND: usize = 256;

    pub(super) fn of(tasks: &InsertGroup) -> Self {
        let args = |task: &NewTask| task.args.as_ref().map_or(0, |args| args.len());
        let tags =
            |task: &NewTask| task.tags.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let bytes = |task: &NewTask| args(task) + tags(task) + Self::AROUND;
        Self { tasks: tasks.tasks.len(), bytes: tasks.tasks.iter().map(|insert| bytes(&insert.task)).sum() }
    }

    pub(super) fn all<'a>(groups: impl IntoIterator<Item = &'a Group>) -> Self {
        groups.into_iter().fold(Self::default(), |sum, group| Self {
            tasks: sum.tasks + group.size.tasks,
            bytes: sum.bytes + group.size.bytes,
        })
    }

    /// How much longer than `add_timeout` a write of this size may take once it has begun: 1 ms per task plus 1 s per 4
    /// MiB.
    pub(super) fn patience(self) -> Duration {
        let millis = self.tasks + self.bytes / (4 * 1024 * 1024 / 1000);
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

/// The permits of the tasks of a group that may start at once. The first is separate, since most groups have one task.
#[derive(Debug, Default)]
pub(super) struct Permits {
    pub(super) first: Option<Permit>,
    pub(super) rest: Vec<Option<Permit>>,
}

impl Permits {
    pub(super) fn each(self) -> impl Iterator<Item = Option<Permit>> {
        iter::once(self.first).chain(self.rest)
    }
}
