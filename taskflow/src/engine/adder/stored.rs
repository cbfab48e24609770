//! What follows once the store has answered an insert.

use std::mem;

use super::group::{Answer, Group};
use super::queue::AddQueue;
use crate::engine::core::Core;
use crate::engine::late::is_late;
use crate::model::{AddError, NewTask, StoreError, StoreErrorKind};
use crate::observe::{Counter, InRow, Meter};
use crate::store::{InsertBatch, InsertGroup, Inserted, InsertedAs, Refusal, RunRef};

/// What a store answers to an insert: for each group its tasks, or why it was refused.
pub(super) type Answers = Vec<Result<Vec<Inserted>, Refusal>>;

/// Starts the leased tasks of a group, and gives the slots of the others back. Returns the answer for the caller.
pub(super) fn stored(
    queue: &AddQueue,
    group: &mut Group,
    tasks: &InsertGroup,
    answer: Result<Vec<Inserted>, Refusal>,
) -> Answer {
    let permits = mem::take(&mut group.permits);
    let inserted = match answer {
        Ok(inserted) => inserted,
        Err(Refusal::QueueFull { queue: name, max_size }) => {
            queue.forget(group.announced, tasks);
            queue.free(permits);
            let full = AddError::QueueFull { queue: name, max_size };
            refused(&queue.core, tasks, &full);
            return Err(full);
        }
    };
    let mut holds = Vec::new();
    for ((insert, inserted), permit) in tasks.tasks.iter().zip(&inserted).zip(permits.each()) {
        if group.announced {
            let task = inserted.kind.is_new().then_some(&insert.task);
            queue.core.events.added(insert.task.id, task);
        }
        match (inserted.kind, permit, &queue.worker) {
            (InsertedAs::Leased { fence }, Some(permit), Some(worker)) => {
                let asked = group.sent_at.unwrap_or_else(|| queue.core.seam.instant());
                worker.start_leased(&insert.task, RunRef::new(inserted.id, fence), permit, asked);
            }
            (kind, permit, worker) => {
                queue.free_each([permit]);
                match (kind, worker) {
                    (InsertedAs::Held { fence }, _) => holds.push(RunRef::new(inserted.id, fence)),
                    (InsertedAs::Pending | InsertedAs::Replaced, Some(worker)) => worker.may_have_work(),
                    _ => {}
                }
            }
        }
    }
    holds.iter().for_each(|hold| queue.core.holds.begin(*hold));
    let age = group.sent_at.map(|sent_at| queue.core.seam.since(sent_at)).unwrap_or_default();
    if !holds.is_empty() && is_late(age, queue.core.settings.lease) {
        queue.core.late.soon.notify_one();
    }
    if let (Some(hold_owner), false) = (&group.hold_owner, holds.is_empty()) {
        hold_owner.held(holds);
    }
    Ok(inserted)
}

/// Sends the event of a group that a full queue refused. The event is about the group's first task in that queue.
fn refused(core: &Core, tasks: &InsertGroup, full: &AddError) {
    let AddError::QueueFull { queue, .. } = full else { return };
    let in_queue = tasks.tasks.iter().find(|insert| insert.task.queue == **queue);
    if let Some(insert) = in_queue {
        core.rejected(&insert.task, full);
    }
}

/// Counts the tasks that are new, and those that a full queue refused.
pub(super) fn count(meter: &Meter, batch: &InsertBatch, answers: &Answers) {
    let mut tasks = InRow::new(meter);
    for (group, answer) in batch.groups.iter().zip(answers) {
        for (at, NewTask { name, queue, source, .. }) in
            group.tasks.iter().map(|insert| &insert.task).enumerate()
        {
            match answer {
                Ok(inserted) if inserted[at].kind.is_new() => {
                    tasks.count(name, queue, Counter::added(*source));
                }
                Ok(_) => {}
                Err(Refusal::QueueFull { .. }) => tasks.count(name, queue, Counter::Rejected),
            }
        }
    }
}

/// Checks that the answer of a store names every task. An incomplete answer counts as lost: the insert can be repeated, and a
/// caller whose time is up gets an error that says that its tasks may be stored.
pub(super) fn complete(batch: &InsertBatch, answers: Answers) -> Result<Answers, StoreError> {
    let names_all = |(group, answer): (&InsertGroup, &Result<Vec<Inserted>, Refusal>)| {
        answer.as_ref().map_or(true, |inserted| inserted.len() == group.tasks.len())
    };
    if answers.len() == batch.groups.len() && batch.groups.iter().zip(&answers).all(names_all) {
        return Ok(answers);
    }
    Err(StoreError::new(StoreErrorKind::Unknown, "the store's answer does not name every inserted task"))
}
