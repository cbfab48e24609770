//! A fresh store, two processes that use it, and short functions for what cases do with it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::fixture::Fixture;
use crate::model::{
    AttemptOutcome, InstanceId, InstanceInfo, NewTask, TaskFilter, TaskId, TaskRecord, TaskStatus,
};
use crate::store::{
    Claim, Claimed, Claims, Finish, FinishKind, Finished, HoldOutcome, InsertBatch, InsertGroup, InsertTask,
    Inserted, InsertedAs, Recovered, Refusal, Release, Renewal, Renewed, RunRef, Start, Store,
};

/// A lease that does not end during a test.
pub(crate) const LONG: Duration = Duration::from_secs(3600);
/// The longest wait for anything. Only what never comes takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Lab {
    pub(crate) store: Arc<dyn Store>,
    /// The process that acts unless a case names another one.
    pub(crate) me: InstanceInfo,
    pub(crate) other: InstanceInfo,
    fixture: Fixture,
}

impl Lab {
    pub(crate) async fn new(fixture: Fixture) -> Self {
        let store = Arc::clone(&fixture.store);
        let (me, other) = (instance("here", 7), instance("elsewhere", 8));
        store.join(&me).await.expect("join");
        store.join(&other).await.expect("join");
        Self { store, me, other, fixture }
    }

    /// Another handle to the same store, as another process has one. `None` if the fixture cannot open one.
    pub(crate) async fn another_handle(&self) -> Option<Arc<dyn Store>> {
        let open = self.fixture.another.as_ref()?;
        Some(open().await)
    }

    /// Drops the handle to the store, and goes on with another one, as a restarted process does. `None` if the fixture cannot
    /// open one.
    pub(crate) async fn reopened(self) -> Option<Self> {
        let Self { store, me, other, fixture: Fixture { store: same, another, keep } } = self;
        let open = another?;
        drop((store, same));
        let store = open().await;
        let fixture = Fixture { store: Arc::clone(&store), another: Some(open), keep };
        Some(Self { store, me, other, fixture })
    }

    // Adding.

    /// Inserts one group as this process.
    pub(crate) async fn try_insert(&self, tasks: Vec<InsertTask>) -> Result<Vec<Inserted>, Refusal> {
        self.insert_groups(vec![tasks]).await.pop().expect("one group, one answer")
    }

    pub(crate) async fn insert_groups(
        &self,
        groups: Vec<Vec<InsertTask>>,
    ) -> Vec<Result<Vec<Inserted>, Refusal>> {
        self.insert_for(LONG, groups).await
    }

    /// Inserts groups. Their runs and holds get leases of this length.
    pub(crate) async fn insert_for(
        &self,
        lease: Duration,
        groups: Vec<Vec<InsertTask>>,
    ) -> Vec<Result<Vec<Inserted>, Refusal>> {
        let groups: Vec<_> = groups.into_iter().map(InsertGroup::new).collect();
        let expected = groups.len();
        let batch = InsertBatch::new(self.me.id, lease, groups);
        let answers = self.store.insert(Arc::new(batch)).await.expect("insert");
        assert_eq!(answers.len(), expected, "one answer for each group");
        answers
    }

    /// Inserts one task and answers what became of it.
    pub(crate) async fn begin(&self, task: NewTask, start: Start) -> Inserted {
        self.try_insert(vec![InsertTask::new(task, start)]).await.expect("not refused")[0]
    }

    /// Inserts one new pending task.
    pub(crate) async fn add(&self, task: NewTask) -> TaskId {
        let id = task.id;
        assert_eq!(self.begin(task, Start::Wait).await, Inserted::new(id, InsertedAs::Pending));
        id
    }

    /// Inserts one task that runs from the start.
    pub(crate) async fn run(&self, task: NewTask) -> RunRef {
        let inserted = self.begin(task, Start::Lease).await;
        let InsertedAs::Leased { fence } = inserted.kind else { panic!("not leased: {inserted:?}") };
        RunRef::new(inserted.id, fence)
    }

    /// Inserts one held task.
    pub(crate) async fn hold(&self, task: NewTask) -> RunRef {
        let inserted = self.begin(task, Start::Hold).await;
        let InsertedAs::Held { fence } = inserted.kind else { panic!("not held: {inserted:?}") };
        RunRef::new(inserted.id, fence)
    }

    // Running.

    /// A claim of up to `limit` tasks by a process that knows the usual names and queues of the cases.
    pub(crate) fn request(&self, limit: usize) -> Claim {
        let queues = ["default", "mail", "reports"].map(|queue| (queue.into(), limit));
        Claim::new(self.me.id, LONG, names(&["alpha", "beta", "gamma"]), queues.to_vec(), limit)
    }

    pub(crate) async fn ask(&self, claim: Claim) -> Claims {
        self.store.claim(claim).await.expect("claim")
    }

    pub(crate) async fn claim(&self, limit: usize) -> Vec<Claimed> {
        self.ask(self.request(limit)).await.tasks
    }

    /// The ids of up to `limit` tasks, claimed.
    pub(crate) async fn claim_ids(&self, limit: usize) -> Vec<TaskId> {
        self.claim(limit).await.iter().map(|task| task.run.id).collect()
    }

    /// Claims the one task there is to claim.
    pub(crate) async fn claim_one(&self) -> Claimed {
        let mut tasks = self.claim(10).await;
        assert_eq!(tasks.len(), 1, "one task to claim");
        tasks.remove(0)
    }

    pub(crate) async fn claim_as(&self, instance: InstanceId, lease: Duration) -> Vec<Claimed> {
        let mut claim = self.request(1000);
        (claim.instance, claim.lease) = (instance, lease);
        self.ask(claim).await.tasks
    }

    pub(crate) async fn finish(&self, run: RunRef, kind: FinishKind) -> Finished {
        self.finish_all(vec![Finish::new(run, kind)]).await[0]
    }

    pub(crate) async fn finish_all(&self, finishes: Vec<Finish>) -> Vec<Finished> {
        let expected = finishes.len();
        let answers = self.store.finish(Arc::new(finishes)).await.expect("finish");
        assert_eq!(answers.len(), expected, "one answer for each finish");
        answers
    }

    /// Runs a task and ends it with this status.
    pub(crate) async fn ended(&self, task: NewTask, status: TaskStatus) -> TaskId {
        let run = self.run(task).await;
        let kind = if status == TaskStatus::Success { success() } else { end(status) };
        assert_eq!(self.finish(run, kind).await, Finished::Applied(status));
        run.id
    }

    pub(crate) async fn release(&self, hold: RunRef, outcome: HoldOutcome) -> bool {
        self.store.release(Arc::new(vec![Release::new(hold, outcome)])).await.expect("release")[0]
    }

    pub(crate) async fn renew(&self, lease: Duration, runs: &[RunRef]) -> Renewed {
        self.store.renew(Renewal::new(self.me.id, lease, runs.to_vec())).await.expect("renew")
    }

    /// Ends the leases of these runs and holds of this process, and waits until their tasks have been recovered.
    pub(crate) async fn lose(&self, runs: &[RunRef]) -> Vec<Recovered> {
        let renewed = self.renew(Duration::from_millis(1), runs).await;
        assert_eq!(renewed.lost, [], "still ours");
        self.recover(runs).await
    }

    /// Waits until the tasks of these runs and holds have been recovered. Their leases must end by themselves.
    pub(crate) async fn recover(&self, runs: &[RunRef]) -> Vec<Recovered> {
        let mut recovered: Vec<Recovered> = Vec::new();
        let patience = Patience::new("the recovery of lost runs");
        while runs.iter().any(|run| recovered.iter().all(|it| it.id != run.id)) {
            patience.wait().await;
            recovered.extend(self.store.recover(self.other.id).await.expect("recover"));
        }
        recovered
    }

    // Looking.

    pub(crate) async fn get(&self, id: TaskId) -> TaskRecord {
        self.store.get(id).await.expect("get").expect("it is there")
    }

    pub(crate) async fn status(&self, id: TaskId) -> TaskStatus {
        self.get(id).await.status
    }

    pub(crate) async fn outcomes(&self, id: TaskId) -> Vec<(u32, AttemptOutcome)> {
        self.get(id).await.attempts.iter().map(|attempt| (attempt.number, attempt.outcome)).collect()
    }

    /// Everything of a task that a stale write could touch, for comparison.
    pub(crate) async fn portrait(&self, id: TaskId) -> String {
        let record = serde_json::to_string(&self.get(id).await).expect("a record is JSON");
        let logs = self.store.logs(id).await.expect("logs");
        format!("{record} {logs:?}")
    }

    pub(crate) async fn ids(&self, filter: TaskFilter) -> Vec<TaskId> {
        self.store.list(filter).await.expect("list").items.iter().map(|task| task.id).collect()
    }

    /// Checks the counts that the store keeps against its records.
    pub(crate) async fn assert_counts_are_true(&self) {
        let counts = self.store.counts().await.expect("counts");
        for status in TaskStatus::ALL {
            let filter = TaskFilter::new().status(status).limit(TaskFilter::MAX_LIMIT);
            assert_eq!(counts.get(status), self.ids(filter).await.len() as u64, "{status}");
        }
        for queue in self.store.queues().await.expect("queues") {
            let all = TaskFilter::new().queue(&queue.name).limit(TaskFilter::MAX_LIMIT);
            let records = self.store.list(all).await.expect("list").items;
            let count = |status| records.iter().filter(|task| task.status == status).count() as u64;
            let finished = records.iter().filter(|task| task.status.is_final()).count() as u64;
            let counted = (count(TaskStatus::Pending), count(TaskStatus::Running), finished);
            assert_eq!((queue.pending, queue.running, queue.finished), counted, "queue {}", queue.name);
        }
    }
}

/// Waits for a condition, for at most `DEADLINE`.
pub(crate) struct Patience {
    what: &'static str,
    since: Instant,
}

impl Patience {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, since: Instant::now() }
    }

    /// Sleeps for a millisecond. Panics if `DEADLINE` has passed since [`new`](Self::new).
    pub(crate) async fn wait(&self) {
        assert!(self.since.elapsed() < DEADLINE, "waited {DEADLINE:?} for {}", self.what);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(crate) fn instance(host: &str, pid: u32) -> InstanceInfo {
    let mut info = InstanceInfo::of_this_process(true);
    info.host = host.to_owned();
    info.pid = pid;
    info
}

pub(crate) fn names(names: &[&str]) -> Arc<[Arc<str>]> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

/// A task of that name, due at once, in the default queue.
pub(crate) fn task(name: &'static str) -> NewTask {
    NewTask::new(name, Ok(Arc::from(r#"{"to":"someone"}"#)))
}

/// The same task with a change.
pub(crate) fn with(mut task: NewTask, change: impl FnOnce(&mut NewTask)) -> NewTask {
    change(&mut task);
    task
}

pub(crate) fn with_key(name: &'static str, key: &str) -> NewTask {
    with(task(name), |task| task.idempotency_key = Some(key.to_owned()))
}

pub(crate) fn with_run_key(name: &'static str, key: &str) -> NewTask {
    with(task(name), |task| task.run_key = Some(key.to_owned()))
}

/// A task with this number of attempts, and no delay between them.
pub(crate) fn with_attempts(name: &'static str, attempts: u32) -> NewTask {
    with(task(name), |task| {
        task.policy.to_mut().retries = attempts - 1;
        task.policy.to_mut().delay = Duration::ZERO;
    })
}

pub(crate) fn waiting(task: NewTask) -> InsertTask {
    InsertTask::new(task, Start::Wait)
}

/// One task for a queue in which at most `max_size` may wait.
pub(crate) fn limited(task: NewTask, start: Start, max_size: usize) -> InsertTask {
    let mut insert = InsertTask::new(task, start);
    insert.max_size = Some(max_size);
    insert
}

pub(crate) fn success() -> FinishKind {
    FinishKind::Success { result: json!({"sent": true}).to_string().into() }
}

pub(crate) fn retry(delay: Duration) -> FinishKind {
    FinishKind::Retry { delay, outcome: AttemptOutcome::Failed, error: "no luck".to_owned() }
}

pub(crate) fn give_back(outcome: Option<AttemptOutcome>) -> FinishKind {
    FinishKind::GiveBack { delay: Duration::ZERO, outcome }
}

pub(crate) fn end(status: TaskStatus) -> FinishKind {
    let outcome = match status {
        TaskStatus::Cancelled => AttemptOutcome::Cancelled,
        TaskStatus::Interrupted => AttemptOutcome::Interrupted,
        _ => AttemptOutcome::Failed,
    };
    FinishKind::End { status, outcome, error: "the end".to_owned() }
}

/// The only answer. Panics if there is none or more than one.
pub(crate) fn only<T: Debug>(mut answers: Vec<T>) -> T {
    assert_eq!(answers.len(), 1, "one answer: {answers:?}");
    answers.remove(0)
}
