//! Inserts of new tasks.

use std::sync::Arc;

use super::state::{Tables, later};
use super::task::{Lease, Rare, Stage, Task};
use crate::model::{NewTask, TaskId, TaskStatus, When, time};
use crate::store::{InsertBatch, InsertGroup, InsertTask, Inserted, InsertedAs, Refusal, Start};

/// The fence of a run or hold that begins with the insert. The fence of a claim is greater.
const FIRST_FENCE: u64 = crate::store::RunRef::FIRST_FENCE;

/// The steps that undo the inserts of a group, in case a later task of the group is refused.
struct Undos {
    /// `false` for a group of one task, which has nothing to undo.
    wanted: bool,
    steps: Vec<Undo>,
}

impl Undos {
    fn push(&mut self, step: impl FnOnce() -> Undo) {
        if self.wanted {
            self.steps.push(step());
        }
    }
}

enum Undo {
    Forget(TaskId),
    Restore(Box<Task>),
}

impl Tables {
    pub(super) fn insert(&mut self, batch: &InsertBatch) -> Vec<Result<Vec<Inserted>, Refusal>> {
        let now = self.now();
        batch.groups.iter().map(|group| self.insert_group(batch, group, now)).collect()
    }

    fn insert_group(
        &mut self,
        batch: &InsertBatch,
        group: &InsertGroup,
        now: i64,
    ) -> Result<Vec<Inserted>, Refusal> {
        let mut undo = Undos { wanted: group.tasks.len() > 1, steps: Vec::new() };
        let mut answers = Vec::with_capacity(group.tasks.len());
        for task in &group.tasks {
            match self.insert_one(batch, task, now, &mut undo) {
                Ok(answer) => answers.push(answer),
                Err(refusal) => {
                    self.undo(undo.steps, now);
                    self.reject(group, &refusal, now);
                    return Err(refusal);
                }
            }
        }
        Ok(answers)
    }

    /// Counts the refused tasks, and stores a record of the refusal if one was asked for.
    fn reject(&mut self, group: &InsertGroup, refusal: &Refusal, now: i64) {
        let Refusal::QueueFull { queue, .. } = refusal;
        if group.tasks.iter().any(|insert| self.tasks.contains_key(&insert.task.id)) {
            // The insert is repeated, and the refusal was counted before.
            return;
        }
        let queue = self.index.queue_or_new(queue);
        self.index.queues[queue].rejected += group.tasks.len() as u64;
        if let [insert] = &*group.tasks
            && insert.record_rejected
        {
            let mut task = self.build(&insert.task, now);
            task.stage = Stage::Ended { status: TaskStatus::Rejected, at: now };
            task.rare.error = Some(refusal.error());
            self.next_seq += 1;
            self.attach(task, now);
            self.trim();
        }
    }

    fn undo(&mut self, undo: Vec<Undo>, now: i64) {
        for step in undo.into_iter().rev() {
            match step {
                Undo::Forget(id) => {
                    self.detach(id);
                }
                Undo::Restore(before) => {
                    self.detach(before.id);
                    self.attach(before, now);
                }
            }
        }
    }

    fn insert_one(
        &mut self,
        batch: &InsertBatch,
        insert: &InsertTask,
        now: i64,
        undo: &mut Undos,
    ) -> Result<Inserted, Refusal> {
        let new = &insert.task;
        if let Some(there) = self.tasks.get(&new.id) {
            if there.stage.status() == TaskStatus::Rejected {
                let queue = self.index.queue_of(there).name.to_string();
                return Err(Refusal::QueueFull { queue, max_size: insert.max_size.unwrap_or(0) });
            }
            return Ok(Inserted::new(new.id, answer_again(there, batch)));
        }
        let mut task = self.build(new, now);
        if let Some(holder) = self.index.key_holder(&task) {
            return Ok(Inserted::new(holder, InsertedAs::Duplicate));
        }
        if let Some(waiting) = self.index.run_key_holder(&task) {
            if let Some(before) = self.tasks.get(&waiting) {
                undo.push(|| Undo::Restore(before.clone()));
            }
            self.change(waiting, now, |waiting| replace(waiting, *task));
            return Ok(Inserted::new(waiting, InsertedAs::Replaced));
        }
        let queue = self.index.queue_of(&task);
        if let Some(max_size) = insert.max_size.filter(|max_size| queue.waiting_first >= *max_size) {
            return Err(Refusal::QueueFull { queue: queue.name.to_string(), max_size });
        }
        let kind = self.begin(&mut task, insert.start, batch, now);
        self.next_seq += 1;
        undo.push(|| Undo::Forget(new.id));
        self.attach(task, now);
        Ok(Inserted::new(new.id, kind))
    }

    /// Begins a new task as `start` says.
    fn begin(&mut self, task: &mut Task, start: Start, batch: &InsertBatch, now: i64) -> InsertedAs {
        let queue = self.index.ready_lists[task.ready_list].queue;
        let starts = match start {
            Start::Wait => false,
            Start::Hold => {
                task.stage = Stage::Held(self.lease(batch.instance, batch.lease, now));
                return InsertedAs::Held { fence: task.next_run().fence };
            }
            Start::Lease => true,
            Start::LeaseIfIdle => !self.index.has_due(queue, now),
        };
        if !starts || task.run_at > now || task.has_expired(now) || self.index.queues[queue].paused {
            // The first fence is used up, although nothing starts: a run under it always began with the insert.
            task.fence = FIRST_FENCE;
            return InsertedAs::Pending;
        }
        let lease = self.lease(batch.instance, batch.lease, now);
        InsertedAs::Leased { fence: task.start(lease, now).fence }
    }

    /// Builds the task as a new one that waits.
    fn build(&mut self, new: &NewTask, now: i64) -> Box<Task> {
        let ready_list = self.index.ready_list_or_new(&new.queue, &new.name);
        let scheduled_for = match new.when {
            When::Now => None,
            When::In(length) => Some(later(now, length)),
            When::At(at) => Some(time::to_micros(at)),
        };
        Box::new(Task {
            id: new.id,
            seq: self.next_seq,
            ready_list,
            priority: new.priority,
            // The code that builds an `InsertTask` has checked the arguments.
            args: new.args.as_ref().map_or_else(|_| Arc::from("null"), Arc::clone),
            source: new.source,
            policy: self.index.ready_lists[ready_list].share(&new.policy),
            stage: Stage::Pending,
            fence: 0,
            attempt: 0,
            max_attempts: new.policy.max_attempts(),
            lost_runs: 0,
            past: Vec::new(),
            created_at: now,
            run_at: scheduled_for.unwrap_or(now),
            result: None,
            rare: Rare::of(new, scheduled_for),
            started_at: None,
        })
    }
}

/// Replaces the content of a waiting task with that of another add with the same run key. A hold stays: only its holder
/// ends it.
fn replace(waiting: &mut Task, new: Task) {
    let Task { ready_list, priority, args, policy, max_attempts, run_at, rare, .. } = new;
    waiting.ready_list = ready_list;
    waiting.priority = priority;
    waiting.args = args;
    waiting.policy = policy;
    waiting.max_attempts = max_attempts;
    waiting.run_at = run_at;
    waiting.rare.tags = rare.tags.clone();
    waiting.rare.trace = rare.trace.clone();
    waiting.rare.scheduled_for = rare.scheduled_for;
    waiting.rare.expires_at = rare.expires_at;
    waiting.rare.concurrency_key = rare.concurrency_key.clone();
}

/// The first answer to the insert of a task that is there already, if that answer still holds; else `Pending`.
fn answer_again(there: &Task, batch: &InsertBatch) -> InsertedAs {
    let is_first = |lease: &Lease| lease.holder.id == batch.instance && there.fence == FIRST_FENCE;
    match &there.stage {
        Stage::Running { lease, .. } if is_first(lease) => InsertedAs::Leased { fence: FIRST_FENCE },
        Stage::Held(lease) if is_first(lease) => InsertedAs::Held { fence: FIRST_FENCE },
        _ => InsertedAs::Pending,
    }
}
