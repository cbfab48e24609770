//! Tasks that a request adds run after its response, or not at all.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State as AppState};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use everywhere::everywhere;
use futures_util::{FutureExt, StreamExt, stream};
use support::{Gate, Place, eventually, reaches, record, soon};
use taskflow::{
    AddError, BackgroundTasks, QueueConfig, State, TaskFilter, TaskId, TaskManager, TaskRecord, TaskStatus,
    model::{StoreError, StoreErrorKind, TaskSource},
    task::IntoNewTask,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;
use wrapper::{Wrapper, go_on};

#[taskflow::task]
async fn mark(State(ran): State<Gate>) {
    ran.note();
}

struct App {
    tasks: TaskManager,
    ran: Gate,
}

impl App {
    async fn new() -> Self {
        let ran = Gate::default();
        let builder = Place::memory().builder().state(ran.clone());
        let builder = builder.queue("small", QueueConfig::new().max_size(1).concurrency(0));
        Self { tasks: builder.start().await.unwrap(), ran }
    }

    fn router<H, T>(&self, handler: H) -> Router
    where
        H: axum::handler::Handler<T, TaskManager>,
        T: 'static,
    {
        Router::new().route("/", get(handler)).layer(self.tasks.layer()).with_state(self.tasks.clone())
    }

    async fn only_task(&self) -> TaskRecord {
        let found = eventually("one task", || async {
            self.tasks.list(TaskFilter::new()).await.unwrap().items.into_iter().next()
        });
        found.await
    }

    /// Waits long enough for each task that is not held, and checks that no task of a request has run.
    async fn nothing_runs(&self) {
        let probe = self.tasks.add_task(mark, ()).await.unwrap();
        let before = self.ran.count();
        soon(probe.wait()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(self.ran.count() <= before + 1);
        let others = TaskFilter::new().status(TaskStatus::Success);
        let ended = self.tasks.list(others).await.unwrap().items;
        assert!(ended.iter().all(|task| task.source == TaskSource::Manager), "{ended:?}");
    }
}

fn request() -> Request {
    Request::builder().uri("/").body(Body::empty()).unwrap()
}

async fn add_one(tasks: BackgroundTasks) -> Result<String, AddError> {
    Ok(tasks.add_task(mark, ()).await?.to_string())
}

/// A body of two frames. The second comes when the gate opens.
fn slow_body(gate: Gate) -> Body {
    let first = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b"first")) });
    let last = stream::once(async move {
        gate.pass().await;
        Ok(Bytes::from_static(b"last"))
    });
    Body::from_stream(first.chain(last))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_runs_before_the_body_has_been_sent_and_then_it_does() {
    let app = App::new().await;
    let response = app.router(add_one).oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    app.nothing_runs().await;
    let task = app.only_task_of_a_request().await;
    assert_eq!((task.status, task.source), (TaskStatus::Pending, TaskSource::Request));
    // Reads the body to its end, but does not drop it yet.
    let mut body = response.into_body().into_data_stream();
    let mut text = Vec::new();
    while let Some(frame) = body.next().await {
        text.extend_from_slice(&frame.unwrap());
    }
    let id: TaskId = std::str::from_utf8(&text).unwrap().parse().unwrap();
    assert_eq!(id, task.id);
    reaches(&app.tasks, id, TaskStatus::Success).await;
    assert_eq!(app.ran.count(), 2);
    drop(body);
}

impl App {
    async fn only_task_of_a_request(&self) -> TaskRecord {
        let all = self.tasks.list(TaskFilter::new()).await.unwrap().items;
        let mut of_requests = all.into_iter().filter(|task| task.source == TaskSource::Request);
        of_requests.next().expect("a request added it")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_outlives_many_leases() {
    let ran = Gate::default();
    let builder = Place::memory().builder().state(ran.clone()).lease(Duration::from_millis(60));
    let app = App { tasks: builder.start().await.unwrap(), ran };
    let response = app.router(add_one).oneshot(request()).await.unwrap();
    // The recovery looks for lost holds each second.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(app.ran.count(), 0);
    drop(response);
    app.ran.reached(1).await;
    assert_eq!(app.tasks.health().lost_leases, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_processes_do_not_run_what_is_held_either() {
    let place = Place::sqlite();
    let ran = Gate::default();
    let adding = place.builder().connect().await.unwrap();
    let running = place.builder().state(ran.clone()).start().await.unwrap();
    let app = App { tasks: adding, ran: ran.clone() };
    let response = app.router(add_one).oneshot(request()).await.unwrap();
    let probe = running.add_task(mark, ()).await.unwrap();
    soon(probe.wait()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(ran.count(), 1);
    drop(response);
    ran.reached(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_5xx_cancels_with_the_reason() {
    let app = App::new().await;
    async fn fail(tasks: BackgroundTasks) -> Response {
        add_one(tasks).await.unwrap();
        (StatusCode::BAD_GATEWAY, "upstream").into_response()
    }
    let response = app.router(fail).oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let task = reaches(&app.tasks, app.only_task().await.id, TaskStatus::Cancelled).await;
    assert!(task.error.as_deref().unwrap().contains("502"), "{:?}", task.error);
    assert_eq!((app.ran.count(), task.attempts.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_4xx_is_an_answer() {
    let app = App::new().await;
    async fn refuse(tasks: BackgroundTasks) -> StatusCode {
        add_one(tasks).await.unwrap();
        StatusCode::CONFLICT
    }
    drop(app.router(refuse).oneshot(request()).await.unwrap());
    app.ran.reached(1).await;
}

async fn panics(tasks: BackgroundTasks) -> StatusCode {
    add_one(tasks).await.unwrap();
    panic!("a handler that panics, on purpose");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_cancels_with_the_reason() {
    let app = App::new().await;
    let serving = tokio::spawn(app.router(panics).oneshot(request()));
    assert!(serving.await.unwrap_err().is_panic());
    let task = reaches(&app.tasks, app.only_task().await.id, TaskStatus::Cancelled).await;
    assert!(task.error.as_deref().unwrap().contains("panicked"), "{:?}", task.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_catches_the_panic_makes_no_difference() {
    let app = App::new().await;
    let serving = AssertUnwindSafe(app.router(panics).oneshot(request())).catch_unwind();
    assert!(serving.await.is_err());
    let task = support::ends(&app.tasks, app.only_task().await.id).await;
    assert_eq!(task.status, TaskStatus::Cancelled);
    assert!(task.error.as_deref().unwrap().contains("panicked"), "{:?}", task.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_runs_when_a_timeout_cuts_in() {
    let app = App::new().await;
    async fn hang(tasks: BackgroundTasks) -> StatusCode {
        add_one(tasks).await.unwrap();
        std::future::pending().await
    }
    let serving = tokio::time::timeout(Duration::from_millis(100), app.router(hang).oneshot(request()));
    assert!(serving.await.is_err());
    app.ran.reached(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_whose_future_is_dropped_is_not_held_for_ever() {
    let app = App::new().await;
    async fn drop_it(tasks: BackgroundTasks) -> StatusCode {
        // Polling the add once sends it. Nobody waits for its answer.
        let mut add = tasks.add_task(mark, ()).into_future();
        let _ = (&mut add).now_or_never();
        drop(add);
        StatusCode::OK
    }
    for count in 1..=20 {
        drop(app.router(drop_it).oneshot(request()).await.unwrap());
        app.ran.reached(count).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_added_after_the_response_is_not_held() {
    let app = App::new().await;
    let (give, mut take) = tokio::sync::mpsc::unbounded_channel();
    let keep = move |tasks: BackgroundTasks| async move {
        give.send(tasks.clone()).unwrap();
        StatusCode::OK
    };
    drop(app.router(keep).oneshot(request()).await.unwrap());
    let late = take.recv().await.unwrap();
    let handle = late.add_task(mark, ()).await.unwrap();
    soon(handle.wait()).await.unwrap();
    assert_eq!(record(&app.tasks, handle.id()).await.source, TaskSource::Request);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_eager_is_not_held_and_not_undone() {
    let app = App::new().await;
    async fn eager(tasks: BackgroundTasks) -> StatusCode {
        let handle = tasks.add_task(mark, ()).eager(true).await.unwrap();
        soon(handle.wait()).await.unwrap();
        StatusCode::INTERNAL_SERVER_ERROR
    }
    let response = app.router(eager).oneshot(request()).await.unwrap();
    assert_eq!(app.ran.count(), 1);
    drop(response);
    assert_eq!(app.only_task().await.status, TaskStatus::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_and_a_call_are_held_too() {
    let app = App::new().await;
    async fn batch(tasks: BackgroundTasks) -> Result<(), AddError> {
        let new = || tasks.add_task(mark, ()).into_new_task();
        tasks.add_all([new(), new(), new()]).await?;
        Ok(())
    }
    let response = app.router(batch).oneshot(request()).await.unwrap();
    app.nothing_runs().await;
    drop(response);
    app.ran.reached(4).await;
}

#[tokio::test]
async fn without_the_layer_the_answer_is_500_with_the_remedy() {
    let router: Router = Router::new().route("/", get(add_one));
    let response = router.oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let text = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains(".layer(tasks.layer())"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_429_through_a_question_mark() {
    let app = App::new().await;
    async fn small(tasks: BackgroundTasks) -> Result<String, AddError> {
        Ok(tasks.add_task(mark, ()).queue("small").await?.to_string())
    }
    let router = app.router(small);
    // It stays in the queue, which runs nothing here.
    let first = router.clone().oneshot(request()).await.unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    let second = router.oneshot(request()).await.unwrap();
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(second.headers().contains_key("retry-after"));
    let text = to_bytes(second.into_body(), usize::MAX).await.unwrap();
    assert!(String::from_utf8_lossy(&text).contains("queue `small` is full"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manager_itself_holds_nothing() {
    let app = App::new().await;
    async fn plain(AppState(tasks): AppState<TaskManager>) -> Result<String, AddError> {
        let handle = tasks.add_task(mark, ()).await?;
        soon(handle.wait()).await.unwrap();
        Ok(handle.to_string())
    }
    let response = app.router(plain).oneshot(request()).await.unwrap();
    assert_eq!((response.status(), app.ran.count()), (StatusCode::OK, 1));
    assert_eq!(app.only_task().await.source, TaskSource::Manager);
}

async fn serve(router: Router) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn ask(address: std::net::SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_body_holds_until_its_last_byte_and_the_client_may_go_away() {
    let app = App::new().await;
    let gate = Gate::default();
    let body = gate.clone();
    let streams = move |tasks: BackgroundTasks| async move {
        add_one(tasks).await?;
        Ok::<_, AddError>(slow_body(body).into_response())
    };
    let address = serve(app.router(streams)).await;

    let mut patient = ask(address).await;
    let mut seen = vec![0; 4096];
    let mut text = String::new();
    while !text.contains("first") {
        let length = patient.read(&mut seen).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&seen[..length]));
    }
    gate.reached(1).await;
    app.nothing_runs().await;
    gate.open();
    app.ran.reached(2).await;

    let hurried = ask(address).await;
    eventually("the second request added its task", || async {
        (app.tasks.list(TaskFilter::new()).await.unwrap().items.len() == 3).then_some(())
    })
    .await;
    drop(hurried);
    app.ran.reached(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_that_went_away_had_accepted_runs() {
    let app = App::new().await;
    let stuck = Gate::default();
    let inside = stuck.clone();
    let hang = move |tasks: BackgroundTasks| async move {
        add_one(tasks).await.unwrap();
        inside.pass().await;
        StatusCode::OK
    };
    let address = serve(app.router(hang)).await;
    let client = ask(address).await;
    stuck.reached(1).await;
    app.nothing_runs().await;
    drop(client);
    app.ran.reached(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_releases_what_is_held() {
    let place = Place::memory();
    let ran = Gate::default();
    let first = place.builder().state(ran.clone()).start().await.unwrap();
    let app = App { tasks: first.clone(), ran: ran.clone() };
    let response = app.router(add_one).oneshot(request()).await.unwrap();
    first.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(ran.count(), 0);
    let began = Instant::now();
    let second = place.builder().state(ran.clone()).start().await.unwrap();
    ran.reached(1).await;
    assert!(began.elapsed() < Duration::from_secs(5), "its lease would have been 10 s");
    drop(response);
    second.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(ran.count(), 1);
}

/// A manager on that place, whose store calls `hook` before each call.
async fn wrapped(
    place: &Place,
    hook: impl Fn(&'static str) -> wrapper::Before + Send + Sync + 'static,
) -> (TaskManager, Gate) {
    let ran = Gate::default();
    let store = Wrapper::new(place.store(), hook);
    let tasks = TaskManager::builder().store(store).state(ran.clone()).start().await.unwrap();
    (tasks, ran)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_keeps_a_verdict_that_the_store_has_not_taken_yet() {
    for place in everywhere() {
        // The store fails the first release, once the shutdown has begun.
        let (asked, ending, calls) = (Gate::default(), Gate::default(), Arc::new(AtomicUsize::new(0)));
        let hook = {
            let (asked, ending) = (asked.clone(), ending.clone());
            move |call| {
                let is_release = ["release", "release_and_turn"].contains(&call);
                if !is_release || calls.fetch_add(1, Ordering::AcqRel) > 0 {
                    return go_on();
                }
                let (asked, ending) = (asked.clone(), ending.clone());
                Box::pin(async move {
                    asked.note();
                    ending.pass().await;
                    Err(StoreError::new(StoreErrorKind::Unavailable, "nobody is at home"))
                })
            }
        };
        let (tasks, ran) = wrapped(&place, hook).await;
        let app = Router::new().route("/", get(add_and_fail)).layer(tasks.layer());
        let response = app.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        asked.reached(1).await;
        let shutdown = tokio::spawn({
            let tasks = tasks.clone();
            async move { tasks.shutdown(Duration::from_secs(20)).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        ending.open();
        soon(shutdown).await.unwrap().unwrap();
        assert_eq!(tasks.health().stale_writes, 0, "it releases only what is not decided yet");

        let eye = place.builder().connect().await.unwrap();
        let tasks = eye.list(TaskFilter::new()).await.unwrap().items;
        assert_eq!((tasks.len(), tasks[0].status), (1, TaskStatus::Cancelled), "{tasks:?}");
        assert!(tasks[0].error.as_ref().unwrap().contains("answered 500"));
        assert_eq!(ran.count(), 0);
    }
}

async fn add_and_fail(tasks: BackgroundTasks) -> StatusCode {
    tasks.add_task(mark, ()).await.unwrap();
    StatusCode::INTERNAL_SERVER_ERROR
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_add_that_is_under_way_at_the_shutdown_waits_for_nobody_after_it() {
    for place in everywhere() {
        let (asked, written) = (Gate::default(), Gate::default());
        let hook = {
            let (asked, written) = (asked.clone(), written.clone());
            move |call| {
                if call != "insert" {
                    return go_on();
                }
                let (asked, written) = (asked.clone(), written.clone());
                Box::pin(async move {
                    asked.note();
                    written.pass().await;
                    Ok(())
                })
            }
        };
        let (tasks, ran) = wrapped(&place, hook).await;
        let app = Router::new().route("/", get(add_and_stay)).layer(tasks.layer());
        let request = tokio::spawn(app.oneshot(Request::new(Body::empty())));
        asked.reached(1).await;
        let shutdown = tokio::spawn(async move { tasks.shutdown(Duration::from_secs(20)).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        written.open();
        soon(shutdown).await.unwrap().unwrap();
        assert_eq!(ran.count(), 0);
        // The request still goes on. The shutdown has released its tasks, because nobody could release them later.
        let next = place.builder().state(ran.clone()).start().await.unwrap();
        ran.reached(1).await;
        request.abort();
        drop(next);
    }
}

async fn add_and_stay(tasks: BackgroundTasks) {
    tasks.add_task(mark, ()).await.unwrap();
    std::future::pending::<()>().await;
}
