//! One call of `add_task` or `add_all`, on its way.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::engine::holds::HoldOwner;
use crate::engine::slots::Permit;
use crate::model::{AddError, NewTask, StoreError, TaskId};
use crate::store::{InsertGroup, Inserted};

/// What became of an add: what stands for each of its tasks, in order.
pub(crate) type Answer = Result<Vec<Inserted>, AddError>;

/// One call of `add_task` or `add_all`, on its way.
#[derive(Debug)]
pub(super) struct Group {
    /// Empty while they are being written.
    pub(super) tasks: InsertGroup,
    /// The id of its first task: what an add is asked for whose answer was lost.
    pub(super) id: TaskId,
    pub(super) size: Size,
    pub(super) permits: Permits,
    /// Until when its caller waits for the write to begin.
    pub(super) deadline: Instant,
    /// An error left open whether it is stored.
    pub(super) in_doubt: bool,
    /// Somebody listens for what becomes of it.
    pub(super) announced: bool,
    /// Who releases what is held back of it.
    pub(super) hold_owner: Option<Arc<dyn HoldOwner>>,
    /// Until its caller has been answered.
    pub(super) reply: Option<oneshot::Sender<Answer>>,
}

impl Group {
    /// Answers its caller. Nobody may listen any more: what was stored stays stored.
    pub(super) fn answer(&mut self, answer: Answer) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(answer);
        }
    }

    /// What its caller hears after that error: whether it may be stored.
    pub(super) fn error(&self, error: StoreError) -> AddError {
        if self.in_doubt { AddError::Unknown { id: self.id, source: error } } else { AddError::Store(error) }
    }

    /// Whether somebody still waits to be answered.
    pub(super) fn is_awaited(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }
}

/// How large what is to be written is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) tasks: usize,
    /// In memory, about.
    pub(super) bytes: usize,
}

impl Size {
    /// What a task takes beside its arguments.
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

    /// How much longer than `add_timeout` a write of this size may take while the store is at work on it: 1 ms for each
    /// task and 1 s for each 4 MiB.
    pub(super) fn patience(self) -> Duration {
        let millis = self.tasks + self.bytes / (4 * 1024 * 1024 / 1000);
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

/// The permit of each task of a group that may start at once. The first is apart, since most groups are of one.
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
