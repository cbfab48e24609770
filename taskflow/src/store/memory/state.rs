//! All tables of the store, behind its one lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::documents::Documents;
use super::index::Index;
use super::schedule_log::ScheduleLog;
use super::task::{Lease, LeaseHolder, Task};
use crate::model::{InstanceId, InstanceInfo, TaskId, time};
use crate::seam::Seam;
use crate::store::ScheduleState;
pub(super) use crate::store::transition::later;
use crate::store::transition::{Decision, TaskState};

#[derive(Debug)]
pub(super) struct Tables {
    seam: Seam,
    /// Boxed, so that the tree moves pointers instead of whole tasks.
    pub(super) tasks: BTreeMap<TaskId, Box<Task>>,
    pub(super) index: Index,
    pub(super) instances: HashMap<InstanceId, Instance>,
    /// The sequence number of the next new task: its age.
    pub(super) next_seq: u64,
    pub(super) schedules: BTreeMap<String, ScheduleState>,
    pub(super) schedule_log: ScheduleLog,
    pub(super) documents: Documents,
    /// The number of ended tasks to keep.
    history: usize,
}

/// A process that joined and has not left.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) info: InstanceInfo,
    pub(super) holder: Arc<LeaseHolder>,
}

impl Tables {
    pub(super) fn new(history: usize, seam: Seam) -> Self {
        Self {
            seam,
            tasks: BTreeMap::new(),
            index: Index::default(),
            instances: HashMap::new(),
            next_seq: 0,
            schedules: BTreeMap::new(),
            schedule_log: ScheduleLog::default(),
            documents: Documents::default(),
            history,
        }
    }

    /// This store's clock, in microseconds since the epoch.
    pub(super) fn now(&self) -> i64 {
        time::to_micros(self.seam.now())
    }

    pub(super) fn join(&mut self, info: &InstanceInfo) {
        let holder = Arc::new(LeaseHolder { id: info.id, host: info.host.clone(), pid: info.pid });
        let now = time::from_micros(self.now());
        let mut info = InstanceInfo { started_at: now, seen_at: now, ..info.clone() };
        if let Some(before) = self.instances.get(&info.id) {
            info.started_at = before.info.started_at;
        }
        self.instances.insert(info.id, Instance { info, holder });
    }

    /// A lease of that instance that begins now.
    pub(super) fn lease(&self, instance: InstanceId, length: Duration, now: i64) -> Lease {
        let holder = match self.instances.get(&instance) {
            Some(known) => Arc::clone(&known.holder),
            None => Arc::new(LeaseHolder { id: instance, host: String::new(), pid: 0 }),
        };
        Lease { holder, until: later(now, length) }
    }

    /// Stores a new task.
    pub(super) fn attach(&mut self, mut task: Box<Task>, now: i64) {
        self.index.add(&mut task, now);
        self.tasks.insert(task.id, task);
    }

    /// Deletes a task.
    pub(super) fn detach(&mut self, id: TaskId) -> Option<Box<Task>> {
        let task = self.tasks.remove(&id)?;
        self.index.remove(&task);
        self.index.unblock_ready();
        Some(task)
    }

    /// Changes a task and its entries in the indexes.
    pub(super) fn change<R>(
        &mut self,
        id: TaskId,
        now: i64,
        change: impl FnOnce(&mut Task) -> R,
    ) -> Option<R> {
        let task = self.tasks.get_mut(&id)?;
        self.index.remove(task);
        let answer = change(task);
        self.index.add(task, now);
        Some(answer)
    }

    /// Asks `rule` for a decision about a task, and applies it. The rule can read the tables, for example to find the
    /// holder of the task's idempotency key.
    pub(super) fn decide<'c, A>(
        &mut self,
        id: TaskId,
        now: i64,
        rule: impl FnOnce(&Self, Option<&TaskState>) -> Decision<'c, A>,
    ) -> A {
        let state = self.tasks.get(&id).map(|task| task.state());
        let decision = rule(self, state.as_ref());
        if let Some(change) = decision.change {
            self.change(id, now, |task| task.apply(&change, now));
        }
        decision.answer
    }

    /// Deletes the oldest ended tasks beyond the history limit. Call it at the end of each write that ends tasks.
    pub(super) fn trim(&mut self) {
        while self.index.ended.len() > self.history {
            let Some((_, &id)) = self.index.ended.first_key_value() else { return };
            self.detach(id);
        }
    }
}
