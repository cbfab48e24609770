//! The metrics are true, complete and in the format of Prometheus.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "metrics/facade.rs"]
mod facade;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use everywhere::everywhere;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use support::{Gate, Place, ends, eventually, soon};
use taskflow::admin::{Actor, Role};
use taskflow::model::StatsFilter;
use taskflow::testing::TestTasks;
use taskflow::web::{Access, Admin};
use taskflow::{AddError, BackgroundTasks, NewTask, QueueConfig, State, TaskManager, TaskManagerBuilder};
use tower::ServiceExt;
use wrapper::{Wrapper, go_on};

const NAUGHTY: &str = "a \"queue\"\\ é";

#[taskflow::task(retries = 1, delay = "1ms")]
async fn work(what: String) -> Result<(), String> {
    match &*what {
        "fails" => Err("as asked".to_owned()),
        "panics" => panic!("as asked"),
        "too long" => std::future::pending().await,
        _ => Ok(()),
    }
}

#[taskflow::task]
async fn once(State(gate): State<Gate>) {
    gate.pass().await;
}

#[taskflow::task(requeue_on_interrupt)]
async fn again(State(gate): State<Gate>) {
    gate.pass().await;
}

#[taskflow::schedule(every = "1s")]
async fn often() {}

fn builder(place: &Place) -> TaskManagerBuilder {
    place
        .builder()
        .state(Gate::default())
        .queue("small", QueueConfig::new().max_size(1).concurrency(1))
        .queue(NAUGHTY, QueueConfig::new())
}

/// The samples of a page: each line without its value, and the value.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(of, value)| (of.to_owned(), value.parse().unwrap()))
        .collect()
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    let bare = |word: &str| {
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        bare.unwrap_or(word).to_owned()
    };
    words.filter(|word| word.starts_with("taskflow_")).map(bare).collect()
}

/// Prometheus's own tool; `None`, with a note, where it is not installed.
fn promtool(args: &[&str], input: &str) -> Option<()> {
    let Some(tool) = servers::find_program("promtool", &[]) else {
        servers::missing("promtool", "Debian's package `prometheus` is not installed here");
        return None;
    };
    let mut tool = Command::new(tool);
    let mut tool =
        tool.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "promtool {args:?}: {said}");
    Some(())
}

fn docs(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file)).unwrap()
}

/// Adds tasks that end in every way, and waits for them.
async fn a_day(tasks: &TaskManager) {
    for what in ["well", "well", "well", "fails", "fails", "panics"] {
        let task = tasks.add_task(work, (what.to_owned(),)).queue(NAUGHTY).await.unwrap();
        soon(ends(tasks, task.id())).await;
    }
    let too_long =
        tasks.add_task(work, ("too long".to_owned(),)).retries(0).timeout(Duration::from_millis(5));
    soon(ends(tasks, too_long.await.unwrap().id())).await;
    tasks.pause_queue("small").await.unwrap();
    let later = |queue| tasks.add_task(work, ("well".to_owned(),)).queue(queue);
    later("small").await.unwrap();
    assert!(later("small").await.is_err(), "it is full");
    assert!(later("nowhere").await.is_err());
    later(NAUGHTY).run_in(Duration::from_secs(3600)).await.unwrap();
}

#[tokio::test]
async fn the_page_says_what_happened_in_a_format_that_prometheus_reads() {
    for place in everywhere() {
        let tasks = builder(&place).max_concurrent_tasks(7).start().await.unwrap();
        a_day(&tasks).await;
        eventually("the schedule ticked", || async {
            tasks.schedules().await.unwrap().iter().any(|schedule| schedule.last_run.is_some()).then_some(())
        })
        .await;
        let page = tasks.metrics().await;
        promtool(&["check", "metrics"], &page);
        let found = samples(&page);
        let naughty = r#"queue="a \"queue\"\\ é""#;
        let expected = [
            (format!(r#"taskflow_tasks_added_total{{task="work",{naughty},source="manager"}}"#), 7.0),
            (format!(r#"taskflow_attempts_total{{task="work",{naughty},outcome="success"}}"#), 3.0),
            (format!(r#"taskflow_attempts_total{{task="work",{naughty},outcome="failed"}}"#), 4.0),
            (format!(r#"taskflow_attempts_total{{task="work",{naughty},outcome="panicked"}}"#), 2.0),
            (r#"taskflow_attempts_total{task="work",queue="default",outcome="timed_out"}"#.to_owned(), 1.0),
            (format!(r#"taskflow_retries_total{{task="work",{naughty}}}"#), 3.0),
            (format!(r#"taskflow_tasks_ended_total{{task="work",{naughty},status="success"}}"#), 3.0),
            (format!(r#"taskflow_tasks_ended_total{{task="work",{naughty},status="failed"}}"#), 3.0),
            (format!(r#"taskflow_task_run_seconds_count{{task="work",{naughty},outcome="ok"}}"#), 3.0),
            (format!(r#"taskflow_task_run_seconds_count{{task="work",{naughty},outcome="error"}}"#), 6.0),
            (format!(r#"taskflow_task_wait_seconds_count{{task="work",{naughty}}}"#), 6.0),
            (r#"taskflow_adds_refused_total{reason="full"}"#.to_owned(), 1.0),
            (r#"taskflow_adds_refused_total{reason="unknown_queue"}"#.to_owned(), 1.0),
            (r#"taskflow_adds_refused_total{reason="store"}"#.to_owned(), 0.0),
            (r#"taskflow_queue_tasks{queue="small",phase="waiting"}"#.to_owned(), 1.0),
            (format!(r#"taskflow_queue_tasks{{{naughty},phase="scheduled"}}"#), 1.0),
            (r#"taskflow_queue_paused{queue="small"}"#.to_owned(), 1.0),
            (r#"taskflow_queue_paused{queue="default"}"#.to_owned(), 0.0),
            (r#"taskflow_queue_limit{queue="small",limit="max_size"}"#.to_owned(), 1.0),
            (r#"taskflow_queue_workers{queue="small"}"#.to_owned(), 1.0),
            (format!(r#"taskflow_instances{{version="{}"}}"#, env!("CARGO_PKG_VERSION")), 1.0),
            ("taskflow_slots".to_owned(), 7.0),
            ("taskflow_running".to_owned(), 0.0),
            ("taskflow_degraded".to_owned(), 0.0),
        ];
        for (sample, value) in expected {
            assert_eq!(found.get(&sample), Some(&value), "{sample} in {page}");
        }
        let inserts = found[r#"taskflow_store_seconds_count{operation="insert"}"#];
        assert!(inserts >= 8.0, "one for each add that came alone: {inserts}");
        let ticked = found[r#"taskflow_schedule_last_tick_timestamp_seconds{schedule="often"}"#];
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 60.0..=now + 1.0).contains(&ticked), "{ticked}");

        let late = found[r#"taskflow_schedule_late_seconds{schedule="often"}"#];
        assert!((0.0..20.0).contains(&late), "{late}");

        let written = names(&docs("observability.md"));
        let unknown: Vec<_> = names(&page).difference(&written).cloned().collect();
        assert_eq!(unknown, Vec::<String>::new(), "docs/observability.md does not list them");
        tasks.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_shutdown_hands_back_is_counted_apart_from_what_it_interrupts() {
    for place in everywhere() {
        let gate = Gate::default();
        let tasks = builder(&place).schedules(false).state(gate.clone()).start().await.unwrap();
        tasks.add_task(once, ()).await.unwrap();
        tasks.add_task(again, ()).await.unwrap();
        tasks.add_task(again, ()).await.unwrap();
        gate.reached(3).await;
        tasks.shutdown(Duration::ZERO).await.unwrap();

        let page = samples(&tasks.metrics().await);
        let ended = |task: &str, outcome: &str| {
            let sample =
                format!(r#"taskflow_attempts_total{{task="{task}",queue="default",outcome="{outcome}"}}"#);
            page.get(&sample).copied().unwrap_or_default()
        };
        assert_eq!((ended("once", "interrupted"), ended("once", "handed_back")), (1.0, 0.0), "{page:?}");
        assert_eq!((ended("again", "interrupted"), ended("again", "handed_back")), (0.0, 2.0), "{page:?}");

        let viewer = place.builder().connect().await.unwrap();
        let stats = viewer.stats(StatsFilter::last(Duration::from_secs(3600))).await.unwrap().total();
        assert_eq!((stats.counts.interrupted, stats.counts.handed_back), (1, 2), "{stats:?}");
        viewer.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[test]
fn rules_and_boards_use_metrics_that_exist_and_are_valid() {
    let (page, alerts, board) = (docs("observability.md"), docs("alerts.yaml"), docs("grafana.json"));
    let table: String = page.lines().filter(|line| line.starts_with("| `taskflow_")).collect();
    let known = names(&table);
    for (file, text) in [("alerts.yaml", &alerts), ("grafana.json", &board)] {
        let unknown: Vec<_> = names(text).difference(&known).cloned().collect();
        assert_eq!(unknown, Vec::<String>::new(), "{file}");
    }
    serde_json::from_str::<serde_json::Value>(&board).unwrap();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    promtool(&["check", "rules", docs.join("alerts.yaml").to_str().unwrap()], "");
    promtool(&["test", "rules", docs.join("alerts.test.yaml").to_str().unwrap()], "");
}

#[tokio::test]
async fn only_who_may_read_metrics_gets_the_page() {
    let tasks = builder(&Place::memory()).start().await.unwrap();
    let named = |parts: &axum::http::request::Parts| {
        let word = parts.headers.get("x-role").and_then(|word| word.to_str().ok()).unwrap_or_default();
        let role = Role::ALL.into_iter().find(|role| role.as_str() == word);
        std::future::ready(role.map(|role| Actor::new("somebody", role)))
    };
    let router = Admin::new(&tasks, Access::from_request(named)).router();
    let ask = async |role: Option<&str>| {
        let mut request = Request::get("/metrics");
        request = role.into_iter().fold(request, |request, role| request.header("x-role", role));
        soon(router.clone().oneshot(request.body(Body::empty()).unwrap())).await.unwrap()
    };
    assert_eq!(ask(None).await.status(), 401);
    assert_eq!(ask(Some("viewer")).await.status(), 403);
    let answer = ask(Some("metrics")).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"].to_str().unwrap()[..25]),
        (200, "text/plain; version=0.0.4")
    );
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    assert!(std::str::from_utf8(&body).unwrap().contains("taskflow_running 0"));
}

#[tokio::test]
async fn a_store_that_does_not_answer_leaves_out_only_its_own_gauges() {
    let place = Place::memory();
    let (hangs, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let store = Wrapper::new(place.store(), {
        let (hangs, reads) = (hangs.clone(), reads.clone());
        move |call| {
            let is_read = call == "queues";
            reads.fetch_add(usize::from(is_read), Ordering::Relaxed);
            if is_read && hangs.load(Ordering::Relaxed) { Box::pin(std::future::pending()) } else { go_on() }
        }
    });
    let tasks = TaskManager::builder().store(Arc::new(store) as Arc<dyn taskflow::Store>);
    let tasks = tasks.queue("small", QueueConfig::new()).queue(NAUGHTY, QueueConfig::new());
    let tasks = tasks.state(Gate::default()).start().await.unwrap();
    hangs.store(true, Ordering::Relaxed);
    let before = reads.load(Ordering::Relaxed);
    let begin = Instant::now();
    let pages = [tasks.metrics(), tasks.metrics(), tasks.metrics()];
    for page in soon(futures_util::future::join_all(pages)).await {
        assert!(page.contains("taskflow_running 0") && !page.contains("taskflow_queue_tasks"), "{page}");
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(reads.load(Ordering::Relaxed), before + 1, "scrapers share a read");
}

#[tokio::test]
async fn refusals_of_transactions_and_ticks_are_counted_too() {
    let place = Place::sqlite();
    let hook = |task: &mut NewTask| match &*task.name {
        "often" => Err(AddError::refused("no ticks today")),
        _ => Ok(()),
    };
    let tasks = builder(&place).on_add(hook).start().await.unwrap();
    tasks.pause_queue("small").await.unwrap();
    let file = place.url().trim_start_matches("sqlite://").split('?').next().unwrap().to_owned();
    let connection = taskflow::rusqlite::Connection::open(file).unwrap();
    let add = || tasks.add_task(work, ("well".to_owned(),)).queue("small").within_sqlite(&connection);
    add().unwrap();
    assert!(add().is_err(), "it is full");
    eventually("both are counted", || async {
        let page = samples(&tasks.metrics().await);
        let counted = |reason: &str| page[&format!(r#"taskflow_adds_refused_total{{reason="{reason}"}}"#)];
        (counted("full") == 1.0 && counted("hook") >= 1.0).then_some(())
    })
    .await;
    tasks.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_schedule_that_nobody_ticks_is_late() {
    for place in Place::each() {
        let ticked = builder(&place).start().await.unwrap();
        eventually("the schedule ticked", || async {
            ticked.schedules().await.unwrap().iter().any(|schedule| schedule.last_run.is_some()).then_some(())
        })
        .await;
        ticked.shutdown(Duration::ZERO).await.unwrap();
        // This process declares the schedule, and does not tick it.
        let tasks = builder(&place).schedules(false).start().await.unwrap();
        let late = eventually("a tick that is due for more than a second", || async {
            let page = samples(&tasks.metrics().await);
            let late = page.get(r#"taskflow_schedule_late_seconds{schedule="often"}"#).copied();
            late.filter(|late| *late > 1.0)
        });
        assert!(late.await < 60.0);
        tasks.pause_schedule("often").await.unwrap();
        eventually("a paused one is not late", || async {
            let page = tasks.metrics().await;
            (!page.contains("taskflow_schedule_late_seconds")).then_some(())
        })
        .await;
        tasks.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn one_process_can_leave_the_gauges_of_the_store_to_others() {
    let tasks = builder(&Place::memory()).metrics_store_gauges(false).start().await.unwrap();
    let page = tasks.metrics().await;
    assert!(page.contains("taskflow_slots 64") && !page.contains("taskflow_queue"), "{page}");
}

#[tokio::test]
async fn added_tasks_are_counted_by_their_source() {
    let tasks = builder(&Place::memory()).start().await.unwrap();
    let handler = async |tasks: BackgroundTasks| {
        tasks.add_task(work, ("well".to_owned(),)).await.unwrap();
    };
    let router = axum::Router::new().route("/", axum::routing::post(handler)).layer(tasks.layer());
    for _ in 0..2 {
        let request = Request::post("/").body(Body::empty()).unwrap();
        assert_eq!(soon(router.clone().oneshot(request)).await.unwrap().status(), 200);
    }
    tasks.add_task(work, ("well".to_owned(),)).await.unwrap();
    eventually("a tick added a task, too", || async {
        let page = samples(&tasks.metrics().await);
        let added = |task: &str, source: &str| {
            let sample =
                format!(r#"taskflow_tasks_added_total{{task="{task}",queue="default",source="{source}"}}"#);
            page.get(&sample).copied().unwrap_or_default()
        };
        assert_eq!((added("work", "request"), added("work", "manager")), (2.0, 1.0));
        assert_eq!((added("work", "schedule"), added("often", "manager")), (0.0, 0.0));
        (added("often", "schedule") >= 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn requests_to_the_dashboard_are_counted_by_route_and_its_open_streams_are_shown() {
    let tasks = builder(&Place::memory()).schedules(false).start().await.unwrap();
    let task = tasks.add_task(once, ()).await.unwrap().id();
    let named = |parts: &axum::http::request::Parts| {
        let role = parts.headers.contains_key("x-role").then_some(Role::Viewer);
        std::future::ready(role.map(|role| Actor::new("somebody", role)))
    };
    let router = Admin::new(&tasks, Access::from_request(named)).router();
    let ask = async |path: &str| {
        let request = Request::get(path).header("x-role", "viewer").body(Body::empty()).unwrap();
        soon(router.clone().oneshot(request)).await.unwrap()
    };
    for n in 0..30 {
        ask(&format!("/api/v1/tasks/{task}")).await;
        ask(&format!("/api/v1/tasks/{n}")).await;
        ask(&format!("/nothing/{n}")).await;
    }
    let nobody = Request::get("/api/v1/tasks").body(Body::empty()).unwrap();
    soon(router.clone().oneshot(nobody)).await.unwrap();
    let streams = [ask("/api/v1/events").await, ask(&format!("/api/v1/tasks/{task}/events")).await];
    let page = samples(&tasks.metrics().await);
    let requests: BTreeMap<_, _> =
        page.iter().filter(|(sample, _)| sample.starts_with("taskflow_admin_requests_total")).collect();
    let expected = [
        (r#"route="GET /api/v1/tasks/{id}",code="200""#, 30.0),
        (r#"route="GET /api/v1/tasks/{id}",code="404""#, 30.0),
        (r#"route="other",code="404""#, 30.0),
        (r#"route="GET /api/v1/tasks",code="401""#, 1.0),
        (r#"route="GET /api/v1/events",code="200""#, 1.0),
        (r#"route="GET /api/v1/tasks/{id}/events",code="200""#, 1.0),
    ];
    for (labels, count) in expected {
        let sample = format!("taskflow_admin_requests_total{{{labels}}}");
        assert_eq!(page.get(&sample), Some(&count), "{sample}: {requests:?}");
    }
    assert_eq!(requests.len(), expected.len(), "{requests:?}");
    assert_eq!(page["taskflow_dashboard_viewers"], 2.0);
    promtool(&["check", "metrics"], &tasks.metrics().await);
    drop(streams);
    assert_eq!(samples(&tasks.metrics().await)["taskflow_dashboard_viewers"], 0.0);
}
