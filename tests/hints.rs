//! The hints about changes that processes send each other: only those that the others need, and no more than they can use.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use servers::postgres::{self, PostgresServer};
use servers::redis;
use taskflow::sqlx::postgres::PgListener;
use taskflow::store::{
    Claim, ClaimQueue, Finish, FinishKind, Hint, HintStream, InsertBatch, InsertGroup, InsertTask, RunRef,
    SharedLimits, Start, Store, StoreLayer,
};
use taskflow::{
    InstanceInfo, MemoryStore, NewTask, PostgresStore, RedisStore, State, TaskContext, TaskId, TaskManager,
};
use tokio::sync::{Notify, watch};

const DEADLINE: Duration = Duration::from_secs(20);
const LEASE: Duration = Duration::from_secs(60);

/// A process on a store.
struct Process<S> {
    store: S,
    info: InstanceInfo,
}

impl<S: Store> Process<S> {
    async fn on(store: S) -> Self {
        let info = InstanceInfo::of_this_process(true);
        store.join(&info).await.unwrap();
        Self { store, info }
    }

    async fn add(&self, start: Start) -> TaskId {
        let task = InsertTask::new(NewTask::new("double", Ok(Arc::from(r#"{"number":1}"#))), start);
        let id = task.task.id;
        let batch = InsertBatch::new(self.info.id, LEASE, vec![InsertGroup::new(vec![task])]);
        self.store.insert(Arc::new(batch)).await.unwrap().remove(0).unwrap();
        id
    }

    async fn claim(&self, limits: SharedLimits) -> RunRef {
        let mut queue = ClaimQueue::new("default".into(), 1);
        queue.shared = limits;
        let names: Arc<[Arc<str>]> = Arc::from(["double".into()]);
        let claim = Claim::of(self.info.id, LEASE, names, [queue].into_iter().collect(), 1);
        self.store.claim(claim).await.unwrap().tasks.remove(0).run
    }

    async fn succeed(&self, run: RunRef) {
        let success = FinishKind::Success { result: "null".into() };
        self.store.finish(Arc::new(vec![Finish::new(run, success)])).await.unwrap();
    }
}

async fn hear(hints: &mut HintStream) -> Hint {
    tokio::time::timeout(DEADLINE, hints.next()).await.expect("a hint").expect("the stream goes on")
}

async fn others_hear_only_what_they_need(here: Process<impl Store>, there: Process<impl Store>) {
    let mut hints = there.store.listen();
    // The first hint says that the store listens now.
    assert_eq!(hear(&mut hints).await, Hint::Changed);

    for start in [Start::Lease, Start::LeaseIfIdle] {
        let run = RunRef::new(here.add(start).await, RunRef::FIRST_FENCE);
        here.succeed(run).await;
        assert_eq!(
            hear(&mut hints).await,
            Hint::Ends,
            "{start:?}: only its end, since it ran where it was added"
        );
    }

    here.add(Start::Wait).await;
    assert_eq!(hear(&mut hints).await, Hint::Work, "a task that has no slot where it was added");

    here.add(Start::LeaseIfIdle).await;
    let run = here.claim(SharedLimits::default()).await;
    here.succeed(run).await;
    assert_eq!(hear(&mut hints).await, Hint::Ends, "a task that waits has a slot where it was added");

    let mut limits = SharedLimits::default();
    limits.global_concurrency = Some(1);
    let run = here.claim(limits).await;
    here.succeed(run).await;
    let end = hear(&mut hints).await;
    assert!(matches!(end, Hint::Work | Hint::Changed), "an end after which another task may start: {end:?}");

    here.store.set_paused("other".to_owned(), true).await.unwrap();
    while hear(&mut hints).await != Hint::Changed {}
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_others_hear_only_what_they_need() {
    let Some(url) = postgres::unmade_url() else { return };
    let url = servers::made(url);
    let open = || PostgresStore::open(&url).unwrap();
    others_hear_only_what_they_need(Process::on(open()).await, Process::on(open()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis_others_hear_only_what_they_need() {
    let Some(url) = redis::unmade_url() else { return };
    let url = servers::made(url);
    let open = || RedisStore::open(&url).unwrap();
    others_hear_only_what_they_need(Process::on(open()).await, Process::on(open()).await).await;
}

/// A process that receives a message sends none for the same changes of its own. So the sender must look for those too.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_message_had_to_wait_hears_of_work_once_more() {
    let Some(url) = postgres::unmade_url() else { return };
    let process = Process::on(PostgresStore::open(servers::made(url)).unwrap()).await;
    let mut hints = process.store.listen();
    assert_eq!(hear(&mut hints).await, Hint::Changed, "it listens");
    for _ in 0..100 {
        // The message of the first add is sent at once. That of the second has to wait.
        for _ in 0..2 {
            process.add(Start::Wait).await;
            assert_eq!(hear(&mut hints).await, Hint::Work);
        }
        if tokio::time::timeout(Duration::from_millis(100), hints.next()).await.is_ok() {
            return;
        }
    }
    panic!("in 100 rounds no hint followed those of the two adds");
}

fn others_hear_of_a_store_whose_runtime_has_ended<S: Store>(open: impl Fn() -> S + Send) {
    let start =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first = start();
    let here = first.block_on(async {
        let here = Process::on(open()).await;
        // A message is sent at once, and another has to wait when the runtime ends.
        for _ in 0..2 {
            here.add(Start::Wait).await;
        }
        here
    });
    first.shutdown_background();
    start().block_on(async {
        let there = Process::on(open()).await;
        let mut hints = there.store.listen();
        assert_eq!(hear(&mut hints).await, Hint::Changed, "it listens");
        here.add(Start::Wait).await;
        assert_eq!(hear(&mut hints).await, Hint::Work);
    });
}

#[test]
fn on_postgres_others_hear_of_a_store_whose_runtime_has_ended() {
    let Some(url) = postgres::unmade_url() else { return };
    let url = servers::made(url);
    others_hear_of_a_store_whose_runtime_has_ended(|| PostgresStore::open(&url).unwrap());
}

#[test]
fn on_redis_others_hear_of_a_store_whose_runtime_has_ended() {
    let Some(url) = redis::unmade_url() else { return };
    let url = servers::made(url);
    others_hear_of_a_store_whose_runtime_has_ended(|| RedisStore::open(&url).unwrap());
}

/// Each message wakes every process that listens, so processes that change much do not each send their own.
#[tokio::test(flavor = "multi_thread")]
async fn many_busy_processes_send_no_more_messages_than_one_could() {
    const PROCESSES: usize = 8;
    const ADDS: usize = 250;
    let Some(server) = PostgresServer::start() else { return };
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        let process = Process::on(PostgresStore::open(server.url()).unwrap()).await;
        // The first hint says that the store listens now.
        assert_eq!(hear(&mut process.store.listen()).await, Hint::Changed);
        processes.push(process);
    }
    let mut listener = PgListener::connect(&server.url()).await.unwrap();
    listener.listen("taskflow_hints").await.unwrap();
    let began = Instant::now();
    let adding = processes.into_iter().map(|process| {
        tokio::spawn(async move {
            for _ in 0..ADDS {
                process.add(Start::Wait).await;
            }
            process
        })
    });
    let processes = futures_util::future::try_join_all(adding.collect::<Vec<_>>()).await.unwrap();
    let took = began.elapsed();
    let mut messages = 0;
    // A process that still has something to send does so soon.
    while let Ok(message) = tokio::time::timeout(Duration::from_millis(500), listener.recv()).await {
        message.unwrap();
        messages += 1;
    }
    drop(processes);
    assert!(messages > 0);
    // One process sends at most one message each 5 ms.
    let of_one = took.as_millis() / 5 + 1;
    assert!(messages <= of_one, "{messages} messages in {took:?}; one process sends {of_one}");
}

#[taskflow::task]
async fn stay(State(entered): State<Arc<Notify>>, context: TaskContext) {
    entered.notify_one();
    context.cancelled().await;
}

#[taskflow::task]
async fn pass() {}

/// Hints of other kinds, here those of a process itself, must not put off the poll for requests to stop.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_hears_of_no_other_still_stops_what_was_cancelled_within_seconds() {
    let Some(url) = postgres::unmade_url() else { return };
    let url = format!("{}&listen=off", servers::made(url));
    let entered = Arc::new(Notify::new());
    let builder = TaskManager::builder().store(url.as_str()).state(entered.clone()).lease(LEASE);
    let tasks = builder.start().await.unwrap();
    let long = tasks.add_task(stay, ()).await.unwrap();
    entered.notified().await;
    let adder = tasks.clone();
    let busy = tokio::spawn(async move {
        loop {
            adder.add_task(pass, ()).await.unwrap().wait().await.unwrap();
        }
    });
    let other = PostgresStore::open(&url).unwrap();
    let began = Instant::now();
    other.cancel(vec![long.id()], String::new()).await.unwrap();
    tokio::time::timeout(DEADLINE, long.wait()).await.expect("it is stopped").unwrap_err();
    let took = began.elapsed();
    // Leases are renewed each 20 s.
    assert!(took < Duration::from_secs(10), "{took:?}");
    busy.abort();
    let _ = busy.await;
    tasks.shutdown(DEADLINE).await.unwrap();
}

/// A store in which each stream has `hints` hints at once and then ends. It counts the streams, and how often they are polled.
#[derive(Debug)]
struct Hinting {
    inner: MemoryStore,
    hints: u32,
    streams: Arc<AtomicU32>,
    polls: Arc<watch::Sender<u32>>,
}

impl Hinting {
    fn with(hints: u32) -> Self {
        Self {
            inner: MemoryStore::new(),
            hints,
            streams: Arc::default(),
            polls: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl StoreLayer for Hinting {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn listen(&self) -> HintStream {
        self.streams.fetch_add(1, Ordering::SeqCst);
        let (polls, mut left) = (self.polls.clone(), self.hints);
        Box::pin(stream::poll_fn(move |_| {
            polls.send_modify(|polls| *polls += 1);
            let hint = left.checked_sub(1).map(|rest| {
                left = rest;
                Hint::Changed
            });
            Poll::Ready(hint)
        }))
    }
}

/// A store may have no hints to give, or end them when it loses a connection. A stream that has ended may panic if it is polled.
#[tokio::test(flavor = "multi_thread")]
async fn hints_that_end_leave_the_polls_and_are_not_read_again() {
    let ended = async |hints| {
        let store = Hinting::with(hints);
        let (inner, streams, polls) = (store.inner.clone(), store.streams.clone(), store.polls.clone());
        let entered = Arc::new(Notify::new());
        let builder = TaskManager::builder().store(store).state(entered.clone()).lease(LEASE);
        let tasks = builder.start().await.unwrap();
        let long = tasks.add_task(stay, ()).await.unwrap();
        entered.notified().await;
        let mut read = polls.subscribe();
        let to_the_end = read.wait_for(|polls| *polls > hints);
        tokio::time::timeout(DEADLINE, to_the_end).await.expect("it reads all hints").unwrap();
        // Cancels the task as another process does. This process gets no hint of it.
        inner.cancel(vec![long.id()], String::new()).await.unwrap();
        tokio::time::timeout(DEADLINE, long.wait()).await.expect("a poll finds it").unwrap_err();
        tasks.shutdown(DEADLINE).await.unwrap();
        let (streams, polls) = (streams.load(Ordering::SeqCst), *polls.borrow());
        assert!(streams > 0);
        assert_eq!(polls, streams * (hints + 1), "of {streams} streams of {hints} hints, each to its end");
    };
    futures_util::future::join_all([0, 1, 2, 3, 4, 7].map(ended)).await;
}

/// If a store has hints without a pause, a process reads at most three of them each 5 ms.
#[tokio::test(flavor = "multi_thread")]
async fn hints_without_a_pause_keep_no_process_busy() {
    let store = Hinting::with(u32::MAX);
    let polls = store.polls.clone();
    let tasks = TaskManager::builder().store(store).only(["pass"]).start().await.unwrap();
    let began = Instant::now();
    for _ in 0..50 {
        let task = tasks.add_task(pass, ()).await.unwrap();
        tokio::time::timeout(DEADLINE, task.wait()).await.expect("it runs").unwrap();
    }
    tasks.shutdown(DEADLINE).await.unwrap();
    let looks = began.elapsed().as_millis() / 5 + 2;
    let polls = *polls.borrow();
    assert!(polls > 0);
    assert!(u128::from(polls) <= 3 * looks, "{polls} hints in {looks} times 5 ms");
}
