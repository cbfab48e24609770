//! Plans a batch of adds whose tasks must be looked at one by one: from the known state of the store to the rows to
//! write.

use std::collections::{BTreeSet, HashMap};

use super::answers::begun;
use super::columns::expires_at;
use super::concurrency_keys::Freed;
use super::queue_counts::CountDeltas;
use super::value::length;
use crate::model::{NewTask, TaskId, When, time};
use crate::store::row_state::RowState;
use crate::store::{InsertGroup, InsertTask, Inserted, InsertedAs, Refusal, Start, codec};

/// The known state of the store while the groups are processed, and the rows to write.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan<'b> {
    pub(super) now: i64,
    /// How existing tasks began, or that they were rejected.
    pub(super) there: HashMap<TaskId, RowState>,
    /// The holder of each key, by key and name.
    pub(super) keys: HashMap<(&'b str, &'b str), TaskId>,
    pub(super) run_keys: HashMap<(&'b str, &'b str), TaskId>,
    pub(super) queues: HashMap<String, Queue>,
    /// Stored tasks that wait and have a run key.
    pub(super) waiting: HashMap<TaskId, Waiting<'b>>,
    /// Queues of stored tasks that may be replaced and have a concurrency key.
    pub(super) keyed_queues: BTreeSet<String>,
    pub(super) freed: Freed,
    /// New tasks, in the order in which they were added.
    pub(super) new: Vec<New<'b>>,
    pub(super) counts: CountDeltas,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Queue {
    pub(super) is_paused: bool,
    pub(super) waiting_first: i64,
    pub(super) due: i64,
}

/// A stored task that waits, and its replacement.
#[derive(Clone, Debug)]
pub(super) struct Waiting<'b> {
    pub(super) queue: String,
    pub(super) state: RowState,
    pub(super) concurrency_key: Option<String>,
    pub(super) with: Option<&'b NewTask>,
}

/// A task to insert, and the task of this batch whose values it gets: itself, or a later one with its run key.
#[derive(Clone, Debug)]
pub(super) struct New<'b> {
    pub(super) task: &'b NewTask,
    pub(super) with: &'b NewTask,
    pub(super) state: RowState,
    /// Why it was rejected.
    pub(super) error: Option<String>,
}

impl<'b> Plan<'b> {
    pub(super) fn group(&mut self, group: &'b InsertGroup) -> Result<Vec<Inserted>, Refusal> {
        // Only a group whose later tasks can be refused has anything to undo.
        let before = group.tasks.iter().skip(1).any(|task| task.max_size.is_some()).then(|| self.clone());
        let answer = group.tasks.iter().map(|insert| self.one(insert)).collect();
        if let (Err(_), Some(before)) = (&answer, before) {
            *self = before;
        }
        if let Err(refusal) = &answer {
            self.reject(group, refusal);
        }
        answer
    }

    /// Counts the refused tasks, and keeps a record if one was asked for.
    fn reject(&mut self, group: &'b InsertGroup, refusal: &Refusal) {
        let Refusal::QueueFull { queue, .. } = refusal;
        if group.tasks.iter().any(|insert| self.there.contains_key(&insert.task.id)) {
            // This add is being repeated.
            return;
        }
        self.counts.refuse(queue, codec::to_i64(group.tasks.len()));
        if let [insert] = &*group.tasks
            && insert.record_rejected
        {
            let (task, state) = (&insert.task, RowState::Rejected);
            self.there.insert(task.id, state);
            self.new.push(New { task, with: task, state, error: Some(refusal.error()) });
            self.counts.enter(&task.queue, state, 0);
        }
    }

    fn one(&mut self, insert: &'b InsertTask) -> Result<Inserted, Refusal> {
        let new = &insert.task;
        if let Some(state) = self.there.get(&new.id) {
            return begun(insert, *state);
        }
        let key = new.idempotency_key.as_deref().map(|key| (key, &*new.name));
        if let Some(holder) = key.and_then(|key| self.keys.get(&key)) {
            return Ok(Inserted::new(*holder, InsertedAs::Duplicate));
        }
        let run_key = new.run_key.as_deref().map(|key| (key, &*new.name));
        if let Some(&waiting) = run_key.and_then(|key| self.run_keys.get(&key)) {
            self.replace(waiting, new);
            return Ok(Inserted::new(waiting, InsertedAs::Replaced));
        }
        let queue = *self.queue(&new.queue);
        if let Some(max_size) = insert.max_size.filter(|most| queue.waiting_first >= codec::to_i64(*most)) {
            return Err(Refusal::QueueFull { queue: new.queue.clone().into_owned(), max_size });
        }
        let waits = RowState::waiting(due(new, self.now).0, self.now);
        let has_expired = expires_at(new).is_some_and(|at| at.0 <= self.now);
        let may_start = waits == RowState::Due && !queue.is_paused && !has_expired;
        let state = match insert.start {
            Start::Hold => RowState::Held,
            Start::Lease if may_start => RowState::Running,
            Start::LeaseIfIdle if may_start && queue.due == 0 => RowState::Running,
            _ => waits,
        };
        self.there.insert(new.id, state);
        if let Some(key) = key {
            self.keys.insert(key, new.id);
        }
        if let (Some(key), true) = (run_key, state.is_pending()) {
            self.run_keys.insert(key, new.id);
        }
        self.new.push(New { task: new, with: new, state, error: None });
        self.move_in(&new.queue, state);
        begun(insert, state)
    }

    /// Gives a waiting task the values of another add with its run key. A hold stays: its owner ends it.
    fn replace(&mut self, waiting: TaskId, new: &'b NewTask) {
        let would_be = RowState::waiting(due(new, self.now).0, self.now);
        let becomes = |state: RowState| if state == RowState::Held { RowState::Held } else { would_be };
        let (queue, before, after) = if let Some(stored) = self.waiting.get_mut(&waiting) {
            let before = stored.state;
            if let (RowState::Due, Some(key)) = (before, stored.concurrency_key.take()) {
                self.freed.insert((stored.queue.clone(), key));
            }
            stored.state = becomes(before);
            stored.with = Some(new);
            let queue = std::mem::replace(&mut stored.queue, new.queue.clone().into_owned());
            (queue, before, stored.state)
        } else if let Some(fresh) = self.new.iter_mut().find(|fresh| fresh.task.id == waiting) {
            let before = fresh.state;
            fresh.state = becomes(before);
            let queue = fresh.with.queue.clone().into_owned();
            fresh.with = new;
            (queue, before, fresh.state)
        } else {
            return;
        };
        self.move_out(&queue, before);
        self.move_in(&new.queue, after);
    }

    fn queue(&mut self, name: &str) -> &mut Queue {
        if !self.queues.contains_key(name) {
            self.queues.insert(name.to_owned(), Queue::default());
        }
        self.queues.get_mut(name).expect("it was inserted")
    }

    fn move_in(&mut self, queue: &str, state: RowState) {
        self.counts.enter(queue, state, i64::from(state == RowState::Running));
        self.count(queue, state, 1);
    }

    fn move_out(&mut self, queue: &str, state: RowState) {
        self.counts.exit(queue, state, 0);
        self.count(queue, state, -1);
    }

    fn count(&mut self, queue: &str, state: RowState, one: i64) {
        let queue = self.queue(queue);
        queue.waiting_first += if state.is_pending() { one } else { 0 };
        queue.due += if state == RowState::Due { one } else { 0 };
    }
}

/// When a task is due, and the given time if there is one.
pub(super) fn due(new: &NewTask, now: i64) -> (i64, Option<i64>) {
    let scheduled_for = match new.when {
        When::Now => None,
        When::In(delay) => Some(now.saturating_add(length(delay))),
        When::At(at) => Some(time::to_micros(at)),
    };
    (scheduled_for.unwrap_or(now), scheduled_for)
}
