//! The path of an add to the store. Adds that come while writes are in flight collect and go together in the next write.
//! A caller is answered when *its* row is committed. No timer collects adds, so an idle system adds no latency. Where the store
//! answers without waiting, the caller itself inserts.

mod group;
mod immediate;
mod queue;
mod sent;
mod stored;
mod write;

use std::cmp::Reverse;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use self::group::{Answer, Group, Permits, Size};
use self::queue::{AddQueue, Put};
pub(crate) use self::sent::Sent;
use super::core::Core;
use super::holds::HoldOwner;
use super::slots::Permit;
use super::spans::AddSpan;
use super::worker::Worker;
use crate::model::{AddError, NewTask, TaskId, When, limits};
use crate::store::{InsertGroup, InsertTask, Start};

/// Sends adds to the store.
#[derive(Debug)]
pub(crate) struct Adder {
    queue: Arc<AddQueue>,
}

impl Adder {
    pub(crate) fn new(core: Arc<Core>, worker: Option<Arc<Worker>>) -> Arc<Self> {
        Arc::new(Self { queue: Arc::new(AddQueue::new(core, worker)) })
    }

    /// Sends tasks to the store, all or none. The answer comes when they are committed. Dropping [`Sent`] without waiting
    /// for it does not undo the add, unless the tasks still wait for room in the queue.
    pub(crate) fn send(
        &self,
        tasks: impl ExactSizeIterator<Item = NewTask>,
        hold_owner: Option<Arc<dyn HoldOwner>>,
    ) -> Result<Sent, AddError> {
        self.sent(tasks, hold_owner).inspect_err(|refused| self.queue.core.refusals.count(refused))
    }

    fn sent(
        &self,
        tasks: impl ExactSizeIterator<Item = NewTask>,
        hold_owner: Option<Arc<dyn HoldOwner>>,
    ) -> Result<Sent, AddError> {
        let core = &self.queue.core;
        if core.is_closed() {
            return Err(AddError::ShutDown);
        }
        limits::size(tasks.len(), limits::TASKS_AT_ONCE)
            .map_err(|refused| refused.in_add("tasks", &tasks.len()))?;
        let holds = hold_owner.as_ref().is_some_and(|hold_owner| hold_owner.holds());
        let mut inserts = Vec::with_capacity(tasks.len());
        for mut task in tasks {
            if let Some(hold_owner) = &hold_owner {
                task.source = hold_owner.source();
            }
            inserts.push(core.prepare(task, holds)?);
        }
        let of_request = hold_owner.as_ref().and_then(|hold_owner| hold_owner.trace());
        let span = AddSpan::begin(core, &mut inserts, of_request);
        let permits = self.permits(&mut inserts);
        let announced = core.events.adding(inserts.iter().map(|insert| insert.task.id));
        let id = inserts.first().map_or_else(TaskId::new, |insert| insert.task.id);
        let tasks = InsertGroup::new(inserts);
        let size = Size::of(&tasks);
        let deadline = core.seam.in_time(core.settings.add_timeout);
        let mut group = Group {
            tasks,
            id,
            size,
            permits,
            deadline,
            sent_at: None,
            in_doubt: false,
            announced,
            hold_owner,
            reply: None,
        };
        if let Some(store) = core.store.immediate() {
            return Ok(Sent::answered(id, immediate::insert(&self.queue, store, group), span));
        }
        let (reply, answer) = oneshot::channel();
        group.reply = Some(reply);
        let mut sent = Sent::new(id, answer, span);
        match self.queue.put(group) {
            Put::Waits => {}
            Put::NeedsWriter => write::start(self.queue.clone()),
            Put::Full(group) => sent.wait_for_room(self.queue.clone(), group),
            Put::Closed(group) => self.queue.refuse_unqueued(group, AddError::ShutDown),
        }
        Ok(sent)
    }

    /// Waits until every accepted add has been answered.
    pub(crate) async fn drained(&self) {
        self.queue.drained().await;
    }

    /// Polls for the answer to an add.
    pub(crate) fn poll(&self, sent: &mut Sent, cx: &mut Context<'_>) -> Poll<Answer> {
        sent.poll(&self.queue, cx)
    }

    /// Takes slots for the tasks that could start at once, the most urgent first.
    fn permits(&self, inserts: &mut [InsertTask]) -> Permits {
        if let [insert] = inserts {
            return Permits { first: self.permit(insert), rest: Vec::new() };
        }
        let mut first = None;
        let mut rest: Vec<_> = inserts.iter().skip(1).map(|_| None).collect();
        let mut by_urgency: Vec<usize> = (0..inserts.len()).collect();
        by_urgency.sort_by_key(|at| Reverse(inserts[*at].task.priority));
        for at in by_urgency {
            let permit = self.permit(&mut inserts[at]);
            match at.checked_sub(1) {
                Some(at) => rest[at] = permit,
                None => first = permit,
            }
        }
        Permits { first, rest }
    }

    /// Takes a slot for a task that could start at once, and marks the insert to lease it. A held task waits for its
    /// release instead.
    fn permit(&self, insert: &mut InsertTask) -> Option<Permit> {
        let worker = self.queue.worker.as_ref().filter(|worker| worker.may_claim())?;
        let task = &insert.task;
        if task.when != When::Now || insert.start == Start::Hold {
            return None;
        }
        let known = worker.registry.get(&task.name)?;
        let permit = worker.slots.try_take(&task.queue, known.task.is_blocking(), task.eager)?;
        insert.start = if task.eager { Start::Lease } else { Start::LeaseIfIdle };
        Some(permit)
    }
}
