//! Leases: renewal, loss, and recovery of lost runs and holds.

use std::sync::Arc;

use super::state::{Tables, later};
use crate::model::{InstanceId, TaskId, time};
use crate::seam::random;
use crate::store::{Recovered, Renewal, Renewed, RunRef, transition};

/// The maximum number of lost runs, holds and expired tasks that one call moves on.
const RECOVERED_AT_ONCE: usize = 256;

impl Tables {
    pub(super) fn renew(&mut self, renewal: &Renewal) -> Renewed {
        let now = self.now();
        if let Some(instance) = self.instances.get_mut(&renewal.instance) {
            instance.info.seen_at = time::from_micros(now);
        }
        let mut renewed = Renewed::default();
        for run in &renewal.runs {
            match self.renew_one(renewal, *run, now) {
                Some(true) => renewed.cancel.push(*run),
                Some(false) => {}
                None => renewed.lost.push(*run),
            }
        }
        renewed
    }

    /// Renews one lease. Answers whether the run was asked to stop; `None` if this instance no longer has the lease.
    fn renew_one(&mut self, renewal: &Renewal, run: RunRef, now: i64) -> Option<bool> {
        let task = self.tasks.get_mut(&run.id)?;
        if task.fence != run.fence || task.stage.lease()?.holder.id != renewal.instance {
            return None;
        }
        self.index.remove(task);
        if let Some(lease) = task.stage.lease_mut() {
            lease.until = later(now, renewal.lease);
        }
        self.index.add(task, now);
        Some(task.asked_to_stop())
    }

    pub(super) fn asked_to_stop(&self, instance: InstanceId) -> Vec<RunRef> {
        let tasks = self.index.stopping.iter().filter_map(|id| self.tasks.get(id));
        let of_instance =
            tasks.filter(|task| task.stage.lease().is_some_and(|lease| lease.holder.id == instance));
        of_instance.map(|task| RunRef::new(task.id, task.fence)).collect()
    }

    /// Removes an instance and ends its leases now.
    pub(super) fn leave(&mut self, instance: InstanceId) {
        self.instances.remove(&instance);
        let now = self.now();
        let of_instance = |id: &&TaskId| {
            let lease = self.tasks.get(*id).and_then(|task| task.stage.lease());
            lease.is_some_and(|lease| lease.holder.id == instance)
        };
        let left: Vec<TaskId> = self.index.leases.values().filter(of_instance).copied().collect();
        for id in left {
            self.change(id, now, |task| {
                if let Some(lease) = task.stage.lease_mut() {
                    lease.until = now;
                }
            });
        }
    }

    pub(super) fn recover(&mut self) -> Vec<Recovered> {
        let now = self.now();
        let ended = self.index.leases.range(..=(now, u64::MAX)).take(RECOVERED_AT_ONCE);
        let lost: Vec<TaskId> = ended.map(|(_, &id)| id).collect();
        let mut recovered: Vec<_> = lost.into_iter().filter_map(|id| self.recover_one(id, now)).collect();
        self.index.lapse(&self.tasks, now);
        let lapsed = self.index.lapsed.iter().take(RECOVERED_AT_ONCE - recovered.len());
        for id in lapsed.copied().collect::<Vec<_>>() {
            recovered.extend(self.recover_one(id, now));
        }
        self.trim();
        recovered
    }

    fn recover_one(&mut self, id: TaskId, now: i64) -> Option<Recovered> {
        let task = self.tasks.get_mut(&id)?;
        let state = task.state();
        let change = transition::recover(&state, &task.policy, random(), now)?;
        self.index.remove(task);
        task.apply(&change, now);
        self.index.add(task, now);
        Some(change.recovered(&state, id, Arc::clone(&self.index.ready_lists[task.ready_list].name)))
    }
}
