//! Waiting for the ends of tasks: in one process and another, by one caller and a thousand.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::get;
use everywhere::everywhere;
use futures_util::future::poll_immediate;
use futures_util::{StreamExt, stream};
use support::{Gate, eventually, soon};
use taskflow::{
    BackgroundTasks, MemoryStore, State, Store, TaskFilter, TaskHandle, TaskId, TaskManager, TaskStatus,
    model::{FailureKind, StoreError, StoreErrorKind},
};
use tower::ServiceExt;
use wrapper::{Wrapper, go_on};

#[taskflow::task]
async fn double(n: u32, State(gate): State<Gate>) -> Result<u32, String> {
    gate.pass().await;
    Ok(2 * n)
}

#[taskflow::task]
async fn fail(State(gate): State<Gate>) -> Result<u32, String> {
    gate.pass().await;
    Err("there is no paper".to_owned())
}

/// How often each method of the store was called.
#[derive(Clone, Debug, Default)]
struct Calls(Arc<Mutex<HashMap<&'static str, usize>>>);

impl Calls {
    fn of(&self, method: &str) -> usize {
        self.0.lock().unwrap().get(method).copied().unwrap_or_default()
    }
}

/// Counts the calls. A read of ends takes as long as on a server that has much to do.
fn counting(store: &MemoryStore, calls: &Calls) -> Wrapper {
    let calls = calls.clone();
    Wrapper::new(Arc::new(store.clone()), move |method| {
        *calls.0.lock().unwrap().entry(method).or_default() += 1;
        Box::pin(async move {
            if method == "ends" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_callers_that_wait_cost_one_read_a_round_and_not_one_each() {
    let (store, calls, gate) = (MemoryStore::new(), Calls::default(), Gate::default());
    let adder = TaskManager::builder().store(counting(&store, &calls)).connect().await.unwrap();
    let handles = adder.add_all((0..1_000).map(|n| adder.add_task(double, (n,)))).await.unwrap();
    let waiting = Gate::default();
    let wait = |handle: TaskHandle<u32>| {
        let waiting = waiting.clone();
        tokio::spawn(async move {
            waiting.note();
            handle.wait().await
        })
    };
    let waits: Vec<_> = handles.iter().cloned().map(wait).collect();
    waiting.reached(1_000).await;
    eventually("all have been read", || async { (calls.of("ends") >= 2).then_some(()) }).await;

    let (before, began) = (calls.of("ends"), Instant::now());
    // Meanwhile other callers use the store, and each of their calls sends a hint.
    while began.elapsed() < Duration::from_millis(1_200) {
        store.set_paused("default".to_owned(), false).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let rounds = began.elapsed().as_millis() / 500 + 3;
    let reads = calls.of("ends") - before;
    assert!(reads as u128 <= 2 * rounds, "{reads} reads in {:?}", began.elapsed());
    assert_eq!(calls.of("get"), 0);

    // Another process runs them.
    let runner = TaskManager::builder().store(store).state(gate.clone()).start().await.unwrap();
    gate.open();
    for (n, wait) in (0..).zip(waits) {
        assert_eq!(soon(wait).await.unwrap().unwrap(), 2 * n);
    }
    assert_eq!(calls.of("get"), 0);
    runner.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_ends_here_wakes_its_waiters_without_a_read() {
    let gate = Gate::default();
    let store = Wrapper::new(Arc::new(MemoryStore::new()), |method| match method {
        "get" | "ends" | "list" => Box::pin(std::future::ready(Err(StoreError::new(
            StoreErrorKind::Unavailable,
            "nothing can be read",
        )))),
        _ => go_on(),
    });
    let tasks = TaskManager::builder().store(store).state(gate.clone()).start().await.unwrap();
    let well = tasks.add_task(double, (21,)).await.unwrap();
    let badly = tasks.add_task(fail, ()).await.unwrap();
    let mut waits = [pin!(well.wait()), pin!(well.wait())];
    let mut failing = pin!(badly.wait());
    // These callers wait before the tasks end: a later caller would have to read the store.
    for wait in &mut waits {
        assert!(poll_immediate(wait).await.is_none());
    }
    assert!(poll_immediate(&mut failing).await.is_none());
    gate.reached(2).await;
    gate.open();
    for wait in waits {
        assert_eq!(soon(wait).await.unwrap(), 42);
    }
    let failure = soon(failing).await.unwrap_err();
    assert_eq!((failure.kind(), failure.status()), (FailureKind::Ended, TaskStatus::Failed));
    assert_eq!(failure.message(), "there is no paper");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_a_deleted_record_says_that_it_is_gone_and_not_how_it_ended() {
    for place in everywhere() {
        let gate = Gate::default();
        gate.open();
        let tasks = place.builder().state(gate).start().await.unwrap();
        let handle = tasks.add_task(double, (1,)).await.unwrap();
        assert_eq!(soon(handle.wait()).await.unwrap(), 2);
        assert_eq!(tasks.delete_all(TaskFilter::all()).await.unwrap(), 1);
        let failure = soon(handle.wait()).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Gone, "{place:?}");
        assert!(!failure.status().is_final(), "{failure}");
        assert!(failure.to_string().contains("deleted or pruned"), "{failure}");
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_its_manager_and_a_handle_does_not_keep_that_alive() {
    for place in everywhere() {
        let tasks = place.builder().connect().await.unwrap();
        let handle = tasks.add_task(double, (1,)).await.unwrap();
        let waiting = tokio::spawn({
            let handle = handle.clone();
            async move { handle.wait().await }
        });
        drop(tasks);
        let failure = soon(waiting).await.unwrap().unwrap_err();
        assert_eq!((failure.kind(), failure.status()), (FailureKind::ShutDown, TaskStatus::Pending));
        let failure = soon(handle.wait()).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::ShutDown, "{place:?}");

        // A result that another process stores later still arrives.
        let gate = Gate::default();
        gate.open();
        let runner = place.builder().state(gate).start().await.unwrap();
        support::ends(&runner, handle.id()).await;
        assert_eq!(soon(handle.wait()).await.unwrap(), 2);
        runner.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

#[taskflow::task]
async fn square(n: u32) -> Result<u32, String> {
    Ok(n * n)
}

async fn answer_of(
    handler: axum::routing::MethodRouter<TaskManager>,
    tasks: &TaskManager,
) -> (StatusCode, String) {
    let router = Router::new().route("/", handler).layer(tasks.layer()).with_state(tasks.clone());
    let request = Request::builder().uri("/").body(Body::empty()).unwrap();
    let response = soon(router.oneshot(request)).await.unwrap();
    let status = response.status();
    let body = soon(to_bytes(response.into_body(), 1024)).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_gets_the_result_of_a_task_that_its_own_request_holds() {
    async fn wait_in_the_handler(tasks: BackgroundTasks) -> String {
        let handle = tasks.add_task(square, (6,)).await.unwrap();
        handle.wait().await.unwrap().to_string()
    }
    async fn wait_in_the_body(tasks: BackgroundTasks) -> Body {
        let handles = tasks.add_all([square(7), square(8)]).await.unwrap();
        Body::from_stream(stream::iter(handles).then(|handle| async move {
            let value = handle.wait().await.map_err(|failure| failure.to_string())?;
            Ok::<_, String>(format!("{value} "))
        }))
    }
    for place in everywhere() {
        let tasks = place.builder().state(Gate::default()).start().await.unwrap();
        assert_eq!(answer_of(get(wait_in_the_handler), &tasks).await, (StatusCode::OK, "36".to_owned()));
        assert_eq!(answer_of(get(wait_in_the_body), &tasks).await, (StatusCode::OK, "49 64 ".to_owned()));
        assert_eq!(tasks.health().stale_writes, 0, "{place:?}");
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_5xx_cancels_what_is_held_and_not_what_was_waited_for() {
    async fn fail_later(tasks: BackgroundTasks) -> (StatusCode, String) {
        let held = tasks.add_task(square, (1,)).await.unwrap();
        let waited_for = tasks.add_task(square, (2,)).await.unwrap();
        assert_eq!(waited_for.wait().await.unwrap(), 4);
        (StatusCode::INTERNAL_SERVER_ERROR, format!("{held} {waited_for}"))
    }
    for place in everywhere() {
        let tasks = place.builder().state(Gate::default()).start().await.unwrap();
        let (status, ids) = answer_of(get(fail_later), &tasks).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        let ids: Vec<TaskId> = ids.split(' ').map(|id| id.parse().unwrap()).collect();
        support::reaches(&tasks, ids[0], TaskStatus::Cancelled).await;
        assert_eq!(support::record(&tasks, ids[1]).await.status, TaskStatus::Success);
        assert_eq!(tasks.health().stale_writes, 0, "{place:?}");
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn to_wait_for_another_requests_task_does_not_release_it() {
    let place = support::Place::memory();
    let tasks = place.builder().state(Gate::default()).start().await.unwrap();
    async fn hold(tasks: BackgroundTasks) -> String {
        tasks.add_task(square, (3,)).idempotency_key("one").await.unwrap().to_string()
    }
    async fn wait_for_the_same(tasks: BackgroundTasks) -> String {
        let handle = tasks.add_task(square, (3,)).idempotency_key("one").await.unwrap();
        assert!(handle.is_duplicate());
        handle.wait().await.unwrap().to_string()
    }
    let router = Router::new().route("/", get(hold)).layer(tasks.layer()).with_state(tasks.clone());
    let request = Request::builder().uri("/").body(Body::empty()).unwrap();
    // The body of the response has not been read, so the request goes on.
    let first = soon(router.oneshot(request)).await.unwrap();
    let other = tokio::spawn({
        let tasks = tasks.clone();
        async move { answer_of(get(wait_for_the_same), &tasks).await }
    });
    let pending = TaskFilter::new().status(TaskStatus::Pending);
    // A task that is added and run in the meantime shows that there was time.
    assert_eq!(soon(tasks.add(square(5)).await.unwrap().wait()).await.unwrap(), 25);
    assert_eq!(tasks.list(pending).await.unwrap().items.len(), 1);
    assert!(!other.is_finished());
    soon(to_bytes(first.into_body(), 1024)).await.unwrap();
    assert_eq!(soon(other).await.unwrap(), (StatusCode::OK, "9".to_owned()));
}
