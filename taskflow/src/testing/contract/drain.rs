//! The end of a history. The tasks that are left are claimed a few times within narrow limits, then without limits. In the
//! end every task that may run must have been claimed and have ended.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::model::{TaskFilter, TaskId, TaskStatus};
use crate::store::{Finish, HoldOutcome, Release, RunRef};

use super::compare::{agree, same_queues};
use super::history::{Op, QUEUES, Request};
use super::lab::success;
use super::model::{Entry, State};
use super::random::World;

impl World<'_> {
    /// Resumes the queues, ends holds and runs, and then runs due tasks until none is left.
    pub(super) async fn drain(&mut self) -> Result<(), String> {
        for queue in QUEUES {
            self.perform(Op::Pause { queue, paused: false }).await?;
        }
        self.release_all().await?;
        self.finish_all().await?;
        for by in [0, 1, 0, 1] {
            self.claim_and_finish(by, &Request::for_everything().within_narrow_limits()).await?;
            self.cancel_next_with_a_key().await?;
        }
        while self.claim_and_finish(0, &Request::for_everything()).await? > 0 {}
        self.recover(Vec::new(), 0).await?;
        let is_left = |task: &&Entry| task.status() == TaskStatus::Running || task.is_ready();
        agree(
            "never claimed",
            self.model.tasks.iter().filter(is_left).map(Entry::run).collect(),
            Vec::new(),
        )?;
        self.compare_ends().await
    }

    /// Answers how many tasks were claimed.
    async fn claim_and_finish(&mut self, by: usize, request: &Request) -> Result<usize, String> {
        let claims = self.store.claim(self.claim(by, request)).await.unwrap();
        self.claimed(by, request, &claims)?;
        self.finish_all().await?;
        Ok(claims.tasks.len())
    }

    /// Cancels the next task with a concurrency key in each queue. Then another task of that key is the next.
    async fn cancel_next_with_a_key(&mut self) -> Result<(), String> {
        let next = |queue: &str| {
            let waits = |task: &&Entry| {
                task.is_ready() && task.new.queue == queue && task.new.concurrency_key.is_some()
            };
            let tasks = self.model.tasks.iter().filter(waits);
            // Of several with the same priority the one that was added first.
            tasks.min_by_key(|task| Reverse(task.new.priority)).map(|task| task.new.id)
        };
        let ids: Vec<TaskId> = QUEUES.iter().filter_map(|queue| next(queue)).collect();
        let answers = self.store.cancel(ids.clone(), "on request".to_owned()).await.unwrap();
        agree("cancel", answers, ids.into_iter().map(|id| self.model.cancel(id, "on request")).collect())
    }

    async fn release_all(&mut self) -> Result<(), String> {
        let holds = self.alive(|state| matches!(state, State::Held(_)));
        let releases: Vec<_> = holds.iter().map(|hold| Release::new(*hold, HoldOutcome::Run)).collect();
        let answers = self.store.release(Arc::new(releases)).await.unwrap();
        agree(
            "release",
            answers,
            holds.iter().map(|hold| self.model.release(*hold, &HoldOutcome::Run)).collect(),
        )
    }

    async fn finish_all(&mut self) -> Result<(), String> {
        let runs = self.alive(|state| matches!(state, State::Running { .. }));
        let finishes: Vec<_> = runs.iter().map(|run| Finish::new(*run, success())).collect();
        let answers = self.store.finish(Arc::new(finishes.clone())).await.unwrap();
        self.finished(&finishes, answers)
    }

    fn alive(&self, is_meant: fn(State) -> bool) -> Vec<RunRef> {
        self.model.tasks.iter().filter(|task| is_meant(task.state)).map(Entry::run).collect()
    }

    /// Checks that no task is missing, and that each is counted once, under its status.
    async fn compare_ends(&self) -> Result<(), String> {
        let page = self.store.list(TaskFilter::all().limit(TaskFilter::MAX_LIMIT)).await.unwrap();
        let mut said: Vec<(TaskId, TaskStatus)> =
            page.items.iter().map(|task| (task.id, task.status)).collect();
        let mut expected: Vec<_> = self.model.tasks.iter().map(|task| (task.new.id, task.status())).collect();
        said.sort_by_key(|(id, _)| *id);
        expected.sort_by_key(|(id, _)| *id);
        agree("what became of each", said, expected)?;
        agree("counts", self.store.counts().await.unwrap(), self.model.counts())?;
        same_queues(&self.store.queues().await.unwrap(), &self.model)
    }
}
