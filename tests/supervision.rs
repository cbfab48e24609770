//! Panics in the engine, or in the parts that a program brings: they are logged and shown, and everything goes on.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::routing::get;
use support::{Gate, eventually, soon};
use taskflow::{
    AddError, BackgroundTasks, CancelOutcome, LogLevel, MemoryStore, State, TaskContext, TaskManager,
    TaskStatus,
    model::{StoreError, StoreErrorKind},
};
use tower::ServiceExt;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use wrapper::{Before, Wrapper, go_on};

/// The tests run one at a time, because they share the log of the process.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How often each call was made, and what the first calls of each do.
#[derive(Clone, Debug, Default)]
struct Calls(Arc<Mutex<HashMap<&'static str, usize>>>);

impl Calls {
    /// The number of this call, from 0.
    fn next(&self, call: &'static str) -> usize {
        let mut calls = self.0.lock().unwrap();
        let count = calls.entry(call).or_default();
        *count += 1;
        *count - 1
    }

    fn count(&self, call: &str) -> usize {
        self.0.lock().unwrap().get(call).copied().unwrap_or_default()
    }
}

#[derive(Clone, Default)]
struct World {
    ticks: Gate,
    inside: Gate,
    ran: Gate,
}

#[taskflow::schedule(every = "1s", run_on_startup)]
async fn tick(State(world): State<World>) {
    world.ticks.note();
}

#[taskflow::task]
async fn stay(State(world): State<World>, context: TaskContext) {
    context.log(LogLevel::Info, "inside");
    world.inside.pass().await;
}

#[taskflow::task]
async fn run(State(world): State<World>) {
    world.ran.note();
}

async fn add_and_respond(tasks: BackgroundTasks) -> Result<&'static str, AddError> {
    tasks.add_task(run, ()).await.map(|_| "accepted")
}

/// Starts a manager, trying again while the store fails.
async fn start(store: &Wrapper, world: &World) -> TaskManager {
    eventually("it starts", || async {
        let builder = TaskManager::builder().store(store.clone()).state(world.clone());
        // Long enough for some renewals that fail and some restarts.
        builder.lease(Duration::from_secs(3)).start().await.ok()
    })
    .await
}

/// Repeats calls that fail because of the store.
async fn insist<T, E: Debug, F: Future<Output = Result<T, E>>>(call: impl Fn() -> F) -> T {
    let call = &call;
    eventually("it is done", || async move { call().await.ok() }).await
}

/// Everything that a program does with tasks works.
async fn everything_goes_on(tasks: &TaskManager, world: &World, calls: &Calls) {
    let staying = insist(|| tasks.add_task(stay, ()).into_future()).await;
    world.inside.reached(1).await;
    eventually("its line is stored", || async {
        let lines = tasks.logs(staying.id()).await.ok()??;
        lines.iter().any(|line| line.message == "inside").then_some(())
    })
    .await;
    let outcome = insist(|| tasks.cancel(staying.id())).await;
    assert!(matches!(outcome, CancelOutcome::Requested | CancelOutcome::AlreadyFinished), "{outcome:?}");
    assert_eq!(soon(staying.wait()).await.unwrap_err().status(), TaskStatus::Cancelled);

    let before = world.ran.count();
    let app = Router::new().route("/", get(add_and_respond)).layer(tasks.layer());
    let mut requests = 0;
    while world.ran.count() < before + 20 {
        // Some adds answer that their outcome is unknown.
        let response = app.clone().oneshot(Request::new(Body::empty())).await.unwrap();
        to_bytes(response.into_body(), usize::MAX).await.unwrap();
        requests += 1;
        assert!(requests < 200, "too few of {requests} ran: {}", world.ran.count() - before);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ticks = world.ticks.count();
    world.ticks.reached(ticks + 2).await;
    for call in
        ["insert", "release", "report", "renew", "recover", "queue_states", "fire", "schedule_changes"]
    {
        eventually(&format!("`{call}` is called again"), || async { (calls.count(call) > 3).then_some(()) })
            .await;
    }
    eventually("it is well", || async { tasks.health().is_healthy().then_some(()) }).await;
    assert!(calls.count("claim") + calls.count("turn") + calls.count("finish") > 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_panics_in_each_of_its_calls_stops_nothing() {
    let _alone = ALONE.lock().await;
    let (calls, world) = (Calls::default(), World::default());
    let store = Wrapper::new(Arc::new(MemoryStore::new()), {
        let calls = calls.clone();
        move |call| match calls.next(call) {
            // Panics when the call is made, or (call 1) while it is under way.
            number @ (0 | 2) => panic!("`{call}` panics in call {number}"),
            1 => Box::pin(std::future::poll_fn(move |_| panic!("`{call}` panics in its future"))) as Before,
            _ => go_on(),
        }
    });
    let tasks = start(&store, &world).await;
    everything_goes_on(&tasks, &world, &calls).await;
    let health = tasks.health();
    assert!(health.store_errors > 10, "{health:?}");
    assert_eq!(health.engine_restarts, 0, "{health:?}");
    tasks.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_into_a_store_that_goes_on_panicking_is_unknown_in_time_and_the_health_says_why() {
    let _alone = ALONE.lock().await;
    let store = Wrapper::new(Arc::new(MemoryStore::new()), |call| {
        assert!(call != "insert", "no room for this");
        go_on()
    });
    let builder = TaskManager::builder().store(store).state(World::default()).schedules(false);
    let tasks = builder.add_timeout(Duration::from_millis(300)).start().await.unwrap();
    let began = Instant::now();
    let error = soon(tasks.add_task(run, ())).await.unwrap_err();
    assert!(matches!(error, AddError::Unknown { .. }), "{error}");
    assert!(error.to_string().contains("no room for this"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let health = tasks.health();
    assert!(health.reason.unwrap().contains("no room for this"));
}

/// A log layer that panics at the first two events of each text with the word `failed`, while [`PANICS`] is set.
struct Panicking;

/// [`Panicking`] panics at each event with this text.
static ALWAYS: Mutex<Option<&'static str>> = Mutex::new(None);

static PANICS: LazyLock<Mutex<Option<HashMap<String, usize>>>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl<S: tracing::Subscriber> Layer<S> for Panicking {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        if !message.0.contains("failed") {
            return;
        }
        let always = ALWAYS.lock().unwrap().is_some_and(|part| message.0.contains(part));
        assert!(!always, "cannot write `{}`", message.0);
        let count = PANICS.lock().unwrap().as_mut().map(|panics| {
            let count = panics.entry(message.0.clone()).or_default();
            *count += 1;
            *count
        });
        // The lock has been released, so that the panic does not poison it.
        assert!(count.is_none_or(|count| count > 2), "cannot write `{}`", message.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_each_part_of_the_engine_stops_nothing_and_is_shown() {
    let _alone = ALONE.lock().await;
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Panicking));
    let (calls, world) = (Calls::default(), World::default());
    // Each part logs that its calls fail, and the log panics.
    let fails = Arc::new(AtomicBool::new(false));
    let store = Wrapper::new(Arc::new(MemoryStore::new()), {
        let (calls, fails) = (calls.clone(), fails.clone());
        move |call| {
            // A failure of the calls that the test makes itself would panic in the test.
            let is_asked_here = ["get", "logs", "cancel", "list"].contains(&call);
            if is_asked_here || !fails.load(Ordering::Acquire) || calls.next(call) > 3 {
                return go_on();
            }
            let away = StoreError::new(StoreErrorKind::Unavailable, "nobody is at home");
            Box::pin(std::future::ready(Err(away)))
        }
    });
    let tasks = start(&store, &world).await;
    *PANICS.lock().unwrap() = Some(HashMap::new());
    fails.store(true, Ordering::Release);
    everything_goes_on(&tasks, &world, &calls).await;
    let panicked = PANICS.lock().unwrap().take().unwrap();
    for part in ["an insert", "a release", "a report", "a renewal", "a recovery", "a read of the queues"] {
        assert!(panicked.keys().any(|message| message.starts_with(part)), "{part}: {panicked:?}");
    }
    let health = tasks.health();
    assert!(health.engine_restarts > 3, "{health:?}");
    let last = health.last_engine_panic.unwrap();
    assert!(last.contains("panicked"), "{last}");
    tasks.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// The dispatcher panics in each turn that releases something.
#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_that_panics_leaves_its_releases_to_a_write_of_their_own() {
    let _alone = ALONE.lock().await;
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Panicking));
    let store = Wrapper::new(Arc::new(MemoryStore::new()), |call| match call {
        "release_and_turn" => {
            let away = StoreError::new(StoreErrorKind::Unavailable, "nobody is at home");
            Box::pin(std::future::ready(Err(away)))
        }
        _ => go_on(),
    });
    let world = World::default();
    let builder = TaskManager::builder().store(store).state(world.clone()).schedules(false);
    let tasks = builder.start().await.unwrap();
    *ALWAYS.lock().unwrap() = Some("a turn failed");
    let hold = tasks.hold();
    hold.add_task(run, ()).await.unwrap();
    let released = soon(hold.release()).await;
    *ALWAYS.lock().unwrap() = None;
    assert_eq!(released.unwrap(), 1);
    world.ran.reached(1).await;
    let health = tasks.health();
    assert!(health.last_engine_panic.unwrap().contains("the dispatcher"));
    tasks.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// The part that writes adds panics while others wait behind its write.
#[tokio::test(flavor = "multi_thread")]
async fn adds_that_wait_behind_a_write_that_panics_are_written_by_the_next() {
    let _alone = ALONE.lock().await;
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Panicking));
    let (calls, written) = (Calls::default(), Gate::default());
    let store = Wrapper::new(Arc::new(MemoryStore::new()), {
        let (calls, written) = (calls.clone(), written.clone());
        move |call| {
            if call != "insert" || calls.next(call) > 0 {
                return go_on();
            }
            let written = written.clone();
            Box::pin(async move {
                written.pass().await;
                Err(StoreError::new(StoreErrorKind::Unavailable, "nobody is at home"))
            })
        }
    });
    let tasks = TaskManager::builder().store(store).connect().await.unwrap();
    let first = tokio::spawn(tasks.add_task(run, ()).into_future());
    written.reached(1).await;
    // Polling an add once sends it.
    let mut second = tasks.add_task(run, ()).into_future();
    assert!(futures_util::future::poll_immediate(&mut second).await.is_none());
    *ALWAYS.lock().unwrap() = Some("an insert failed");
    written.open();
    let first = soon(first).await.unwrap();
    let second = soon(second).await;
    *ALWAYS.lock().unwrap() = None;
    assert!(matches!(first, Err(AddError::Unknown { .. })), "{first:?}");
    second.unwrap();
    assert!(tasks.health().last_engine_panic.unwrap().contains("the adder"));
    tasks.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[taskflow::task]
async fn fails() -> Result<(), String> {
    Err("as it must".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_panics_at_the_end_of_a_run_keeps_no_slot() {
    let _alone = ALONE.lock().await;
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Panicking));
    let tasks = TaskManager::builder().only(["fails"]).max_concurrent_tasks(1).start().await.unwrap();
    *PANICS.lock().unwrap() = Some(HashMap::new());
    for _ in 0..4 {
        let failure = soon(tasks.add_task(fails, ()).await.unwrap().wait()).await.unwrap_err();
        assert!(failure.to_string().contains("as it must"), "{failure}");
    }
    let panicked = PANICS.lock().unwrap().take().unwrap();
    assert_eq!(panicked.get("the attempt failed"), Some(&4), "{panicked:?}");
    tasks.shutdown(Duration::ZERO).await.unwrap();
}
