//! The scenario `scale`: what the number of waiting tasks costs, measured on the store itself.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use taskflow::model::InstanceId;
use taskflow::store::{
    Claim, ClaimQueue, ClaimQueues, Finish, FinishKind, Finished, InsertBatch, InsertGroup, InsertTask, Start,
};
use taskflow::{InstanceInfo, NewTask, Store, TaskFilter, TaskStatus};

use super::Result;
use super::figure::Sample;
use super::options::Load;

/// The priorities of the waiting tasks.
const PRIORITIES: [i16; 4] = [0, 5, -5, 100];

/// Tasks of one insert while the store is filled.
const FILL: u64 = 1_000;

/// Tasks of one measured insert, and of one claim.
const ADDED: u64 = 16;
const CLAIMED: usize = 256;

/// At most how often each call is made in one measurement.
const CALLS: u64 = 40;

/// The bytes of a large payload.
const LARGE: usize = (1 << 20) - 1_024;

/// Longer than any measurement.
const LEASE: Duration = Duration::from_secs(3_600);

/// A store with waiting tasks.
pub(super) struct Scale {
    store: Arc<dyn Store>,
    me: InstanceId,
    /// The number of the next task.
    next: u64,
    /// How often each call is made in one measurement.
    calls: u64,
    /// How many names the waiting tasks have, and how many queues.
    names: u64,
    queues: u64,
}

impl Scale {
    /// Fills an empty store with that many waiting tasks.
    pub(super) async fn filled(store: Arc<dyn Store>, tasks: u64, load: &Load) -> Result<Self> {
        let calls = load.samples.min(CALLS);
        let least = calls * CLAIMED as u64;
        if tasks < least {
            return Err(
                format!("`scale` claims {least} tasks: let that many wait, or lower `--samples`").into()
            );
        }
        let me = InstanceInfo::of_this_process(true);
        store.join(&me).await?;
        let mut scale = Self { store, me: me.id, next: 0, calls, names: load.names, queues: load.queues };
        scale.fill(tasks).await?;
        Ok(scale)
    }

    /// Measures each call, and leaves as many tasks waiting as before.
    pub(super) async fn measure(&mut self) -> Result<Vec<Sample>> {
        let names: Vec<Arc<str>> = (0..self.names).map(|name| Arc::from(name_of(name))).collect();
        let (names, queues): (Arc<[_]>, _) = (names.into(), (0..self.queues).map(queue_of));
        let room = |queue: String| ClaimQueue::new(Arc::from(queue), usize::MAX);
        let all: ClaimQueues = queues.map(room).collect();

        let adding = self.timed_inserts(|it, number| it.task(number, "{}".into())).await?;
        let (mut claiming, mut finishing, mut seen) = (Duration::ZERO, Duration::ZERO, HashSet::new());
        for _ in 0..self.calls {
            let claim = Claim::of(self.me, LEASE, names.clone(), all.clone(), CLAIMED);
            let since = Instant::now();
            let tasks = self.store.claim(claim).await?.tasks;
            claiming += since.elapsed();
            if tasks.len() != CLAIMED {
                return Err(format!("a claim of {CLAIMED} tasks brought {}", tasks.len()).into());
            }
            seen.extend(tasks.iter().map(|task| task.run.id));
            let success = FinishKind::Success { result: "null".into() };
            let finishes = tasks.iter().map(|task| Finish::new(task.run, success.clone())).collect();
            let since = Instant::now();
            let finished = self.store.finish(Arc::new(finishes)).await?;
            finishing += since.elapsed();
            if finished.iter().any(|it| *it != Finished::Applied(TaskStatus::Success)) {
                return Err("a run was lost while it was measured".into());
            }
        }
        if seen.len() != CLAIMED * usize::try_from(self.calls)? {
            return Err("a task was claimed twice".into());
        }
        let counting = self.timed(|store| async move { store.counts().await.map(drop) }).await?;
        let listing = self
            .timed(|store| async move { store.list(TaskFilter::new().name(name_of(0))).await.map(drop) })
            .await?;
        let large: Arc<str> = format!("{{\"text\":\"{}\"}}", "x".repeat(LARGE)).into();
        let adding_large = self
            .timed_inserts(|it, number| {
                let mut task = it.task(number, large.clone());
                (task.name, task.queue) = ("bench.large".into(), "bench-large".into());
                task
            })
            .await?;
        let known: Arc<[Arc<str>]> = [Arc::from("bench.large")].into();
        let only: ClaimQueues = [room("bench-large".to_owned())].into_iter().collect();
        let since = Instant::now();
        let mut runs = 0;
        while runs < self.calls * ADDED {
            let claim = Claim::of(self.me, LEASE, known.clone(), only.clone(), 16);
            let tasks = self.store.claim(claim).await?.tasks;
            runs += tasks.len() as u64;
            let success = FinishKind::Success { result: "null".into() };
            let finishes = tasks.iter().map(|task| Finish::new(task.run, success.clone())).collect();
            self.store.finish(Arc::new(finishes)).await?;
        }
        let running_large = since.elapsed();
        let (tasks, claimed) = (self.calls * ADDED, self.calls * CLAIMED as u64);
        self.fill(claimed - tasks).await?;
        Ok(vec![
            Sample::micros("scale/add", adding, tasks),
            Sample::micros("scale/claim", claiming, claimed),
            Sample::micros("scale/finish", finishing, claimed),
            Sample::micros("scale/counts", counting, self.calls),
            Sample::micros("scale/list", listing, self.calls),
            Sample::micros("scale/add_1_mib", adding_large, tasks),
            Sample::micros("scale/run_1_mib", running_large, tasks),
        ])
    }

    /// Leaves the store.
    pub(super) async fn close(self) -> Result<()> {
        Ok(self.store.leave(self.me).await?)
    }

    async fn fill(&mut self, tasks: u64) -> Result<()> {
        let end = self.next + tasks;
        while self.next < end {
            let upto = (self.next + FILL).min(end);
            self.insert((self.next..upto).map(|number| self.task(number, "{}".into())).collect()).await?;
            self.next = upto;
        }
        Ok(())
    }

    /// The waiting task with that number. The name changes with each number, the queue after each round of all names.
    fn task(&self, number: u64, args: Arc<str>) -> NewTask {
        let mut task = NewTask::new(name_of(number % self.names), Ok(args));
        task.queue = queue_of(number / self.names % self.queues).into();
        task.priority = PRIORITIES[usize::try_from(number % 7 % 4).unwrap_or_default()];
        task
    }

    async fn timed_inserts(&mut self, new: impl Fn(&Self, u64) -> NewTask) -> Result<Duration> {
        let mut took = Duration::ZERO;
        for _ in 0..self.calls {
            let tasks = (self.next..self.next + ADDED).map(|number| new(self, number)).collect();
            let since = Instant::now();
            self.insert(tasks).await?;
            took += since.elapsed();
            self.next += ADDED;
        }
        Ok(took)
    }

    async fn insert(&self, tasks: Vec<NewTask>) -> Result<()> {
        let tasks = tasks.into_iter().map(|task| InsertTask::new(task, Start::Wait)).collect();
        let batch = InsertBatch::new(self.me, LEASE, vec![InsertGroup::new(tasks)]);
        let answers = self.store.insert(Arc::new(batch)).await?;
        match answers.first() {
            Some(Ok(_)) => Ok(()),
            _ => Err("the store refused tasks of the bench".into()),
        }
    }

    async fn timed<F: Future<Output = Result<(), taskflow::model::StoreError>>>(
        &self,
        call: impl Fn(Arc<dyn Store>) -> F,
    ) -> Result<Duration> {
        let since = Instant::now();
        for _ in 0..self.calls {
            call(self.store.clone()).await?;
        }
        Ok(since.elapsed())
    }
}

fn name_of(number: u64) -> String {
    format!("bench.{number}")
}

fn queue_of(number: u64) -> String {
    format!("bench-{number}")
}
