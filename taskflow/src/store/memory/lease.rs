//! Leases: renewed, lost, and what becomes of what was lost.

use std::sync::Arc;

use super::state::{State, later, now};
use super::task::{Stage, Task};
use crate::model::{AttemptOutcome, InstanceId, TaskId, TaskStatus, time};
use crate::store::{LostRun, Next, Recovered, Renewal, Renewed, Run};

/// The most lost runs and holds that one call moves on.
const RECOVERED_AT_ONCE: usize = 256;

impl State {
    pub(super) fn renew(&mut self, renewal: &Renewal) -> Renewed {
        let now = now();
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

    /// Whether the run was asked to stop; `None` if it is no longer this instance's.
    fn renew_one(&mut self, renewal: &Renewal, run: Run, now: i64) -> Option<bool> {
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

    pub(super) fn asked_to_stop(&self, instance: InstanceId) -> Vec<Run> {
        let tasks = self.index.stopping.iter().filter_map(|id| self.tasks.get(id));
        let of_instance =
            tasks.filter(|task| task.stage.lease().is_some_and(|lease| lease.holder.id == instance));
        of_instance.map(|task| Run::new(task.id, task.fence)).collect()
    }

    /// Ends every lease of an instance and forgets it.
    pub(super) fn leave(&mut self, instance: InstanceId) {
        self.instances.remove(&instance);
        let now = now();
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
        let now = now();
        let ended = self.index.leases.range(..=(now, u64::MAX)).take(RECOVERED_AT_ONCE);
        let lost: Vec<TaskId> = ended.map(|(_, &id)| id).collect();
        let mut recovered: Vec<_> = lost.into_iter().filter_map(|id| self.recover_one(id, now)).collect();
        self.index.lapse(&self.tasks, now);
        let lapsed = self.index.lapsed.iter().take(RECOVERED_AT_ONCE - recovered.len());
        for id in lapsed.copied().collect::<Vec<_>>() {
            let error = Some(Recovered::EXPIRED.to_owned());
            self.change(id, now, |task| task.end(TaskStatus::Cancelled, error, now));
            let Some(task) = self.tasks.get(&id) else { continue };
            recovered.push(Recovered::from_expiry(id, Arc::clone(&self.index.lanes[task.lane].name)));
        }
        self.trim();
        recovered
    }

    fn recover_one(&mut self, id: TaskId, now: i64) -> Option<Recovered> {
        let task = self.tasks.get_mut(&id)?;
        self.index.remove(task);
        let was_held = match task.stage {
            Stage::Running { stop, .. } => {
                lose_run(task, stop, now);
                false
            }
            _ => {
                task.stage = Stage::Pending;
                true
            }
        };
        self.index.add(task, now);
        let name = Arc::clone(&self.index.lanes[task.lane].name);
        if was_held {
            return Some(Recovered::from_hold(id, name));
        }
        let status = task.stage.status();
        let error = task.rare.error.clone().filter(|_| status.is_final());
        Some(Recovered::new(id, name, status, error))
    }
}

fn lose_run(task: &mut Task, stop: bool, now: i64) {
    let lost = LostRun::new(&task.policy, task.attempt, task.max_attempts, task.lost_runs, stop);
    let next = lost.next(fastrand::f64());
    task.record(AttemptOutcome::Lost, Some("worker lost".to_owned()), now);
    task.lost_runs += 1;
    // A late finish is not a repeated one.
    task.fence += 1;
    match next {
        Next::Pending { delay, counted } => {
            if !counted {
                task.attempt -= 1;
            }
            task.rare.error = Some("worker lost".to_owned());
            task.run_at = later(now, delay);
            task.stage = Stage::Pending;
        }
        Next::Ended { status, error } => {
            debug_assert_ne!(status, TaskStatus::Success);
            task.end(status, Some(error), now);
        }
    }
}
