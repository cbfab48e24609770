//! A task belongs to the trace in which it was added: with OpenTelemetry, over processes and retries, and without it.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "traces/exported.rs"]
mod exported;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::post;
use everywhere::everywhere;
use exported::{Traced, links, trace, value};
use opentelemetry::Value;
use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;
use support::{Place, ends, eventually, record, soon};
use taskflow::admin::{Actor, Role};
use taskflow::model::TraceContext;
use taskflow::observe::{BoxFuture, Middleware, Next, OpenTelemetry, Run, RunOutcome, Traces};
use taskflow::web::{Access, Admin};
use taskflow::{BackgroundTasks, LogLevel, State, TaskContext, TaskFilter, TaskId, TaskManager, TaskStatus};
use tower::ServiceExt;
use tracing::Instrument;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// It fails once, and then adds another task.
#[taskflow::task(retries = 1, delay = "1ms")]
async fn twice(context: TaskContext, tasks: TaskManager) -> Result<(), String> {
    context.log(LogLevel::Info, "a line of the task");
    if context.attempt() == 1 {
        return Err("the first attempt fails".to_owned());
    }
    tasks.add_task(child, ()).await.map_err(|error| error.to_string())?;
    Ok(())
}

#[taskflow::task]
async fn child() {}

/// Returns the trace of its run.
#[taskflow::task]
async fn tell(context: TaskContext) -> Result<Option<TraceContext>, String> {
    Ok(context.trace())
}

#[taskflow::task]
async fn tell_through(tasks: TaskManager) -> Result<Option<TraceContext>, String> {
    let told = tasks.add_task(tell, ()).await.map_err(|error| error.to_string())?;
    told.wait().await.map_err(|error| error.to_string())
}

#[taskflow::task]
fn in_a_thread() {
    tracing::info_span!("a span of the body").in_scope(|| {});
}

#[taskflow::task(timeout = "10ms")]
async fn too_long() {
    std::future::pending::<()>().await;
}

#[taskflow::task]
async fn panics() {
    panic!("as it likes");
}

#[taskflow::task(queue = "mail")]
async fn mail() {}

#[taskflow::schedule(every = "1h", run_on_startup)]
async fn hourly() {}

/// Makes a span of its own around the rest of an attempt.
struct Instrumented;

impl Middleware for Instrumented {
    fn run<'a>(&'a self, _: &'a Run, next: Next<'a>) -> BoxFuture<'a, RunOutcome> {
        Box::pin(next.run().instrument(tracing::info_span!("a span of a middleware")))
    }
}

#[taskflow::task(middleware = [Instrumented])]
async fn instrumented() {
    tokio::task::yield_now().await;
    tracing::info_span!("in the body").in_scope(|| {});
}

/// Lets one test run at a time: if some threads have a subscriber and others have none, `tracing` may remember
/// that nobody wants a certain kind of span.
async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}

/// A handler that adds the task `twice` and answers its id.
fn router(tasks: &TaskManager) -> Router {
    let handler = async |tasks: BackgroundTasks| tasks.add_task(twice, ()).await.unwrap().to_string();
    Router::new().route("/", post(handler)).layer(tasks.layer())
}

async fn ask(router: Router, headers: &[(&str, &str)]) -> TaskId {
    let mut request = Request::post("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = soon(router.oneshot(request.body(Body::empty()).unwrap())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let id = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
    std::str::from_utf8(&id).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_trace_goes_from_the_request_over_a_retry_to_a_task_that_the_task_adds() {
    let _alone = alone().await;
    for place in everywhere() {
        let traced = Traced::new();
        let _here = traced.here();
        let tasks = place.builder().queue("mail", taskflow::QueueConfig::new()).tracing(OpenTelemetry);
        let tasks = tasks.only(["twice", "child"]).start().await.unwrap();
        let id = ask(router(&tasks), &[("traceparent", CALLER), ("tracestate", "vendor=1")]).await;
        assert_eq!(soon(ends(&tasks, id)).await.status, TaskStatus::Success);

        let child_run = traced.span("process child").await;
        let adds = traced.spans("send default", 2).await;
        let runs = traced.spans("process twice", 2).await;
        let [first_add, second_add] = &adds[..] else { panic!("{adds:#?}") };
        let [failed, well] = &runs[..] else { panic!("{runs:#?}") };
        // The add is a child of the request, known only from the headers.
        assert_eq!(
            (trace(first_add), first_add.parent_span_id.to_string()),
            (TRACE.to_owned(), CALLER[36..52].to_owned())
        );
        assert_eq!(first_add.span_context.trace_state().header(), "vendor=1");
        assert_eq!(
            (first_add.span_kind.clone(), failed.span_kind.clone()),
            (SpanKind::Producer, SpanKind::Consumer)
        );
        // The first attempt is a child of the add.
        assert_eq!(
            (trace(failed), failed.parent_span_id),
            (TRACE.to_owned(), first_add.span_context.span_id())
        );
        // The second attempt begins a trace of its own, which links to the add.
        assert_ne!(trace(well), TRACE);
        assert_eq!(
            (well.parent_span_id, links(well)),
            (SpanId::INVALID, vec![first_add.span_context.span_id()])
        );
        // The task that it adds belongs to that trace.
        assert_eq!(
            (trace(second_add), second_add.parent_span_id),
            (trace(well), well.span_context.span_id())
        );
        assert_eq!(
            (trace(&child_run), child_run.parent_span_id),
            (trace(well), second_add.span_context.span_id())
        );

        let is = |span: &SpanData, key: &str, expected: &str| {
            assert_eq!(value(span, key).as_deref(), Some(expected), "{key} of {span:#?}");
        };
        for (key, expected) in [
            ("messaging.system", "taskflow"),
            ("messaging.operation.type", "process"),
            ("messaging.destination.name", "default"),
            ("messaging.message.id", &id.to_string()),
            ("taskflow.task.name", "twice"),
            ("taskflow.outcome", "failed"),
            ("error.type", "error"),
        ] {
            is(failed, key, expected);
        }
        for (key, expected) in [("taskflow.attempt", 1), ("taskflow.max_attempts", 2)] {
            let found = failed.attributes.iter().find(|it| it.key.as_str() == key);
            assert_eq!(found.map(|it| &it.value), Some(&Value::I64(expected)), "numbers stay numbers");
        }
        is(well, "taskflow.outcome", "success");
        // A success leaves the status unset: only the operator of a service sets it to `Ok`.
        assert!(matches!(failed.status, Status::Error { .. }), "{:?}", failed.status);
        assert_eq!(well.status, Status::Unset);
        let waited: f64 = value(failed, "taskflow.wait_s").unwrap().parse().unwrap();
        assert!((0.0..20.0).contains(&waited), "{waited}");
        // The text of the error is an event, and no attribute.
        assert!(format!("{:?}", failed.events).contains("the first attempt fails"));
        assert!(!format!("{:?}", failed.attributes).contains("the first attempt fails"));
        assert!(format!("{:?}", failed.events).contains("a line of the task"), "{:#?}", failed.events);
        tasks.shutdown(Duration::ZERO).await.unwrap();
    }
}

/// Not a test by itself: the worker of the next test, in a process of its own.
#[test]
fn the_worker_of_another_process() {
    let Ok(url) = std::env::var("TRACES_WORKER") else { return };
    let traced = Traced::new();
    tracing::subscriber::set_global_default(traced.subscriber()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let tasks = TaskManager::builder().store(url).queue("mail", taskflow::QueueConfig::new());
        let tasks =
            tasks.tracing(OpenTelemetry).only(["twice", "child", "in_a_thread"]).start().await.unwrap();
        let (done, ended) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let _ = std::io::stdin().lines().next();
            let _ = done.send(());
        });
        writeln!(std::io::stdout(), "ready").unwrap();
        ended.await.unwrap();
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    });
    for span in traced.exporter.get_finished_spans().unwrap() {
        let links: Vec<_> = links(&span).iter().map(ToString::to_string).collect();
        let context = &span.span_context;
        let (trace, id) = (context.trace_id(), context.span_id());
        writeln!(
            std::io::stdout(),
            "SPAN|{}|{trace}|{id}|{}|{}",
            span.name,
            span.parent_span_id,
            links.join(",")
        )
        .unwrap();
    }
    std::io::stdout().flush().unwrap();
}

#[tokio::test]
async fn two_processes_share_a_trace() {
    let _alone = alone().await;
    let stores = everywhere().into_iter().filter(|place| !matches!(place, Place::Memory(_)));
    for place in stores {
        let mut worker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_worker_of_another_process", "--nocapture"])
            .env("TRACES_WORKER", place.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.ends_with("ready")), "the worker starts");

        let traced = Traced::new();
        let _here = traced.here();
        let builder = place.builder().queue("mail", taskflow::QueueConfig::new());
        let tasks = builder.tracing(OpenTelemetry).connect().await.unwrap();
        let id = ask(router(&tasks), &[("traceparent", CALLER)]).await;
        soon(ends(&tasks, id)).await;
        soon(tasks.add_task(in_a_thread, ()).await.unwrap().wait()).await.unwrap();
        eventually("the task that it added ended", || async {
            let children = tasks.list(TaskFilter::new().name("child")).await.unwrap().items;
            children.iter().any(|task| task.status.is_final()).then_some(())
        })
        .await;
        tasks.shutdown(Duration::ZERO).await.unwrap();
        drop(worker.stdin.take());
        let spans: Vec<Vec<String>> = lines
            .filter_map(|line| Some(line.strip_prefix("SPAN|")?.split('|').map(str::to_owned).collect()))
            .collect();
        assert!(worker.wait().unwrap().success());

        let named = |name: &str| spans.iter().filter(|span| span[0] == name).cloned().collect::<Vec<_>>();
        let add = traced.span("send default").await;
        let add = (trace(&add), add.span_context.span_id().to_string());
        let runs = named("process twice");
        assert_eq!((runs[0][1].clone(), runs[0][3].clone()), add, "a child of the add: {spans:?}");
        assert!(runs[1][1] != TRACE && runs[1][4] == add.1, "a trace that links to the add: {spans:?}");
        let child = &named("process child")[0];
        assert_eq!(child[1], runs[1][1], "{spans:?}");
        // A synchronous body runs on another thread, in the span of its run.
        let (run, body) = (&named("process in_a_thread")[0], &named("a span of the body")[0]);
        assert_eq!((&body[1], &body[3]), (&run[1], &run[2]), "{spans:?}");
    }
}

#[tokio::test]
async fn without_opentelemetry_the_trace_of_a_request_reaches_outgoing_calls() {
    let _alone = alone().await;
    let tasks = Place::memory().builder().queue("mail", taskflow::QueueConfig::new()).start().await.unwrap();
    let handler = async |tasks: BackgroundTasks| {
        let told = tasks.add_task(tell_through, ()).await.unwrap();
        serde_json::to_string(&told.wait().await.unwrap()).unwrap()
    };
    let router = Router::new().route("/", post(handler)).layer(tasks.layer());
    let told = async |headers: &[(&str, &str)]| {
        let mut request = Request::post("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = soon(router.clone().oneshot(request.body(Body::empty()).unwrap())).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), 1000).await.unwrap();
        serde_json::from_slice::<Option<TraceContext>>(&body).unwrap()
    };
    let caller: TraceContext = CALLER.parse().unwrap();
    let with_state = caller.clone().with_state("a=1,b=2");
    assert_eq!(told(&[("traceparent", CALLER)]).await, Some(caller.clone()));
    assert_eq!(
        told(&[("traceparent", CALLER), ("tracestate", "a=1"), ("tracestate", "b=2")]).await,
        Some(with_state)
    );
    assert_eq!(told(&[("traceparent", CALLER), ("tracestate", &"x".repeat(513))]).await, Some(caller));
    for headers in [
        &[][..],
        &[("traceparent", "nonsense")],
        &[("traceparent", CALLER), ("traceparent", CALLER)],
        &[("tracestate", "a=1")],
    ] {
        assert_eq!(told(headers).await, None, "{headers:?}");
    }
    let ticks = eventually("a tick", || async {
        let ticks = tasks.list(TaskFilter::new().name("hourly")).await.unwrap().items;
        Some(ticks).filter(|ticks| !ticks.is_empty())
    });
    assert_eq!(ticks.await[0].trace, None, "a tick begins a trace");
}

#[tokio::test]
async fn the_page_of_a_task_links_to_its_trace() {
    let _alone = alone().await;
    let tasks =
        Place::memory().builder().queue("mail", taskflow::QueueConfig::new()).connect().await.unwrap();
    let traced = tasks.add_task(tell, ()).trace_context(CALLER.parse().unwrap()).await.unwrap();
    let other = tasks.add_task(tell, ()).await.unwrap();
    let everybody = |_: &axum::http::request::Parts| std::future::ready(Some(Actor::new("Ada", Role::Admin)));
    let admin = Admin::new(&tasks, Access::from_request(everybody))
        .link("trace", "https://traces.example/{trace_id}");
    let router = admin.router();
    let page = async |path: String| {
        let answer =
            soon(router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap())).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    };
    let link = format!("https://traces.example/{TRACE}");
    let shown = page(format!("/tasks/{traced}")).await;
    assert!(shown.contains(&link) && shown.contains(TRACE), "{shown}");
    assert!(!page(format!("/tasks/{other}")).await.contains("traces.example"));
    let json: serde_json::Value =
        serde_json::from_str(&page(format!("/api/v1/tasks/{traced}")).await).unwrap();
    assert_eq!(json["trace"]["traceparent"], CALLER, "{json}");
}

#[tokio::test]
async fn an_add_can_name_its_trace_itself() {
    let _alone = alone().await;
    for place in everywhere() {
        let builder = place.builder().queue("mail", taskflow::QueueConfig::new());
        let tasks = builder.only(["tell"]).start().await.unwrap();
        let named: TraceContext = CALLER.parse().unwrap();
        let named = named.with_state("vendor=1");
        let add = || tasks.add_task(tell, ()).trace_context(named.clone());
        // The first two begin with their add; the third is claimed.
        for add in [add(), add().eager(true), add().run_in(Duration::from_millis(1))] {
            let told = add.await.unwrap();
            assert_eq!(record(&tasks, told.id()).await.trace, Some(named.clone()));
            assert_eq!(soon(told.wait()).await.unwrap(), Some(named.clone()));
        }
        let none = tasks.add_task(tell, ()).await.unwrap();
        assert_eq!(soon(none.wait()).await.unwrap(), None);
        tasks.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn whether_a_run_is_a_child_is_chosen() {
    let _alone = alone().await;
    let late = Traces::Auto { within: Duration::ZERO };
    let auto = Traces::default();
    for (traces, is_child) in [(Traces::Parent, true), (Traces::Link, false), (auto, true), (late, false)] {
        let traced = Traced::new();
        let _here = traced.here();
        let builder =
            TaskManager::builder().queue("mail", taskflow::QueueConfig::new()).tracing(OpenTelemetry);
        let tasks = builder.traces(traces).start().await.unwrap();
        // The task begins in a later millisecond than that of its id.
        let add = tasks.add_task(mail, ()).run_in(Duration::from_millis(5)).await.unwrap();
        soon(add.wait()).await.unwrap();
        let (add, run) = (traced.span("send mail").await, traced.span("process mail").await);
        let add = add.span_context.span_id();
        let expected = if is_child { (add, Vec::new()) } else { (SpanId::INVALID, vec![add]) };
        assert_eq!((run.parent_span_id, links(&run)), expected, "{traces:?}");
    }
}

#[tokio::test]
async fn the_span_of_a_middleware_is_around_the_body() {
    let _alone = alone().await;
    let traced = Traced::new();
    let _here = traced.here();
    let builder = TaskManager::builder().queue("mail", taskflow::QueueConfig::new()).tracing(OpenTelemetry);
    let tasks = builder.start().await.unwrap();
    soon(tasks.add_task(instrumented, ()).await.unwrap().wait()).await.unwrap();
    let run = traced.span("process instrumented").await.span_context.span_id();
    let outer = traced.span("a span of a middleware").await;
    assert_eq!(outer.parent_span_id, run);
    assert_eq!(traced.span("in the body").await.parent_span_id, outer.span_context.span_id());
}

#[tokio::test]
async fn a_span_says_how_its_attempt_ended() {
    let _alone = alone().await;
    let traced = Traced::new();
    let _here = traced.here();
    let tasks = TaskManager::builder().queue("mail", taskflow::QueueConfig::new()).tracing(OpenTelemetry);
    let tasks = tasks.span_tags(["tenant"]).start().await.unwrap();
    let adds = [
        (tasks.add_task(too_long, ()), "too_long", "timed_out", Some("timeout")),
        (tasks.add_task(panics, ()), "panics", "panicked", Some("panic")),
        (tasks.add_task(child, ()).tag("tenant", 42).tag("person", "Ada"), "child", "success", None),
    ];
    for (add, name, outcome, kind) in adds {
        let _ = soon(add.await.unwrap().wait()).await;
        let span = traced.span(&format!("process {name}")).await;
        assert_eq!(value(&span, "taskflow.outcome").as_deref(), Some(outcome));
        assert_eq!(value(&span, "error.type").as_deref(), kind, "{name}");
        let is_error = matches!(span.status, opentelemetry::trace::Status::Error { .. });
        assert_eq!(is_error, kind.is_some(), "{name}: {:?}", span.status);
        let tags = (name == "child").then_some("tenant=42");
        assert_eq!(value(&span, "taskflow.tags").as_deref(), tags);
    }
    let refused = tasks.add_task(child, ()).queue("nowhere").await;
    assert!(refused.is_err());
    let many = tasks.add_all((0..3).map(|_| child())).await.unwrap();
    soon(many[2].wait()).await.unwrap();
    let duplicate = || tasks.add_task(child, ()).idempotency_key("once").run_in(Duration::from_secs(60));
    let (first, second) = (duplicate().await.unwrap(), duplicate().await.unwrap());
    assert_eq!(first.id(), second.id());
    let adds = traced.spans("send default", 5).await;
    let marked = adds.iter().filter(|add| value(add, "taskflow.duplicate").as_deref() == Some("true"));
    assert_eq!(
        marked.map(|add| value(add, "messaging.message.id")).collect::<Vec<_>>(),
        [Some(first.to_string())]
    );
    let inserts = traced.spans("an insert", 4).await;
    assert!(inserts.iter().all(|call| value(call, "outcome").as_deref() == Some("ok")), "{inserts:#?}");
    assert!(inserts.iter().any(|call| value(call, "batch").as_deref() == Some("3")), "{inserts:#?}");
    let batch = traced.span("send batch").await;
    assert_eq!(value(&batch, "messaging.batch.message_count").as_deref(), Some("3"));
    let runs = traced.spans("process child", 4).await;
    let of_batch = runs.iter().filter(|run| run.parent_span_id == batch.span_context.span_id());
    assert_eq!(of_batch.count(), 3);
}

#[tokio::test]
async fn lines_of_tasks_are_events_unless_that_is_turned_off() {
    let _alone = alone().await;
    for is_on in [true, false] {
        let traced = Traced::new();
        let _here = traced.here();
        let tasks = TaskManager::builder().tracing(OpenTelemetry).log_events(is_on);
        let tasks = tasks.queue("mail", taskflow::QueueConfig::new()).start().await.unwrap();
        soon(tasks.add_task(twice, ()).await.unwrap().wait()).await.unwrap();
        for run in traced.spans("process twice", 2).await {
            assert_eq!(
                format!("{:?}", run.events).contains("a line of the task"),
                is_on,
                "{:#?}",
                run.events
            );
        }
    }
}

#[tokio::test]
async fn an_add_in_a_transaction_belongs_to_the_span_around_it() {
    let _alone = alone().await;
    let traced = Traced::new();
    let _here = traced.here();
    let place = Place::sqlite();
    let tasks = place.builder().queue("mail", taskflow::QueueConfig::new()).tracing(OpenTelemetry);
    let tasks = tasks.connect().await.unwrap();
    let file = place.url().trim_start_matches("sqlite://").split('?').next().unwrap().to_owned();
    let connection = taskflow::rusqlite::Connection::open(file).unwrap();
    let around = tracing::info_span!("an order");
    let added = around.in_scope(|| tasks.add_task(child, ()).within_sqlite(&connection)).unwrap();
    drop(around);
    let (order, add) = (traced.span("an order").await, traced.span("send default").await);
    assert_eq!(add.parent_span_id, order.span_context.span_id());
    let stored = record(&tasks, added.id()).await.trace.unwrap();
    assert_eq!(stored.span_id(), add.span_context.span_id().to_string());
    drop(tasks.add_task(child, ()).queue("nowhere").within_sqlite(&connection).unwrap_err());
}

#[tokio::test]
async fn nobody_needs_to_listen() {
    let _alone = alone().await;
    let tasks = Place::memory().builder().queue("mail", taskflow::QueueConfig::new());
    let tasks = tasks.state(State(())).tracing(OpenTelemetry).start().await.unwrap();
    let told = tasks.add_task(tell, ()).await.unwrap();
    assert_eq!(soon(told.wait()).await.unwrap(), None);
}
