//! Operations on the tables that only the test kit uses.

use std::time::Duration;

use super::state::Tables;
use super::task::Stage;
use crate::model::{TaskId, TaskRecord, TaskStatus};
use crate::store::{Claim, Claimed};

impl Tables {
    pub(super) fn claim_one(&mut self, id: TaskId, claim: &Claim) -> Option<Claimed> {
        let task = self.tasks.get(&id).filter(|task| task.stage.status() == TaskStatus::Pending)?;
        let name = &self.index.ready_lists[task.ready_list].name;
        if !claim.names.contains(name) {
            return None;
        }
        let now = self.now();
        let lease = self.lease(claim.instance, claim.lease, now);
        self.start(id, lease, now)
    }

    pub(super) fn next_event(&self) -> Option<Duration> {
        let now = self.now();
        let events = self.tasks.values().filter_map(|task| {
            let expires = task.rare.expires_at.filter(|_| task.stage.status() == TaskStatus::Pending);
            let own = match &task.stage {
                Stage::Pending => Some(task.run_at).filter(|at| *at > now),
                Stage::Held(lease) | Stage::Running { lease, .. } => Some(lease.until),
                Stage::Ended { .. } => None,
            };
            [own, expires].into_iter().flatten().min()
        });
        let next = events.min()?;
        Some(Duration::from_micros(u64::try_from(next.saturating_sub(now)).unwrap_or(0)))
    }

    pub(super) fn is_due(&self, id: TaskId) -> bool {
        let task = self.tasks.get(&id);
        task.is_some_and(|task| matches!(task.stage, Stage::Pending) && task.run_at <= self.now())
    }

    pub(super) fn open_attempts(&self, id: TaskId) -> Option<usize> {
        let task = self.tasks.get(&id).filter(|task| !matches!(task.stage, Stage::Ended { .. }))?;
        Some(task.past.len())
    }

    pub(super) fn has_leases(&self) -> bool {
        self.tasks.values().any(|task| matches!(task.stage, Stage::Held(_) | Stage::Running { .. }))
    }

    pub(super) fn expire_leases(&mut self) {
        let now = self.now();
        let leased = |task: &super::task::Task| matches!(task.stage, Stage::Held(_) | Stage::Running { .. });
        let ids: Vec<_> = self.tasks.values().filter(|task| leased(task)).map(|task| task.id).collect();
        for id in ids {
            self.change(id, now, |task| match &mut task.stage {
                Stage::Held(lease) | Stage::Running { lease, .. } => lease.until = now,
                Stage::Pending | Stage::Ended { .. } => {}
            });
        }
    }

    pub(super) fn records(&self) -> Vec<TaskRecord> {
        let mut tasks: Vec<_> = self.tasks.values().collect();
        tasks.sort_unstable_by_key(|task| task.seq);
        tasks.into_iter().filter_map(|task| self.get(task.id)).collect()
    }

    pub(super) fn set_attempt(&mut self, id: TaskId, attempt: u32) {
        let now = self.now();
        self.change(id, now, |task| task.attempt = attempt.saturating_sub(1));
    }
}
