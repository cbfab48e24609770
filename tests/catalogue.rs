//! The catalogue: every process sees the tasks, queues and schedules of all live processes.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/next_version.rs"]
mod next_version;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use everywhere::everywhere;
use next_version::NextVersion;
use serde_json::json;
use support::{Place, eventually, soon};
use taskflow::admin::{Actor, Role};
use taskflow::model::{LimitsFrom, StoreError, StoreErrorKind, TaskInfo};
use taskflow::web::{Access, Admin};
use taskflow::{MemoryStore, QueueConfig, QueueInfo, ScheduleInfo, TaskManager};
use tower::ServiceExt;
use wrapper::{Wrapper, go_on};

/// Writes to a customer.
///
/// At length.
#[taskflow::task(
    name = "mail",
    aliases = ["letter"],
    queue = "post",
    priority = 7,
    retries = 3,
    delay = "2s",
    backoff = 1.5,
    max_delay = "1m",
    timeout = "30s",
    requeue_on_interrupt
)]
async fn mail(to: Vec<(String, u32)>, copy: Option<String>, #[arg(default)] loud: bool) {
    let _ = (to, copy, loud);
}

#[taskflow::task(name = "report", eager)]
fn report(year: u16) {
    let _ = year;
}

/// Beats five times a second.
#[taskflow::schedule(every = "200ms", name = "beat", priority = 1)]
async fn beat() {}

async fn start(place: &Place, only: &str) -> TaskManager {
    let builder = place.builder().queue("post", QueueConfig::new().concurrency(2).max_size(50));
    builder.only([only]).start().await.unwrap()
}

/// The tasks once they have these names.
async fn tasks_named(tasks: &TaskManager, names: &[&str]) -> Vec<TaskInfo> {
    eventually(&format!("the tasks are {names:?}"), || async {
        let found = tasks.tasks().await.unwrap();
        found.iter().map(|task| task.name.as_str()).eq(names.iter().copied()).then_some(found)
    })
    .await
}

/// The queue, once `is_so` holds for it.
async fn queue(tasks: &TaskManager, name: &str, is_so: impl Fn(&QueueInfo) -> bool) -> QueueInfo {
    eventually(&format!("the queue {name} is as expected"), || async {
        tasks.queues().await.unwrap().into_iter().find(|queue| queue.name == name && is_so(queue))
    })
    .await
}

/// The schedule, once `is_so` holds for it.
async fn schedule(tasks: &TaskManager, name: &str, is_so: impl Fn(&ScheduleInfo) -> bool) -> ScheduleInfo {
    eventually(&format!("the schedule {name} is as expected"), || async {
        tasks.schedules().await.unwrap().into_iter().find(|schedule| schedule.name == name && is_so(schedule))
    })
    .await
}

/// The schedules of a process may be for other queues than those that an actor sees.
#[tokio::test(flavor = "multi_thread")]
async fn an_actor_of_some_queues_sees_of_a_process_only_the_schedules_of_these() {
    let tasks = start(&Place::memory(), "beat").await;
    schedule(&tasks, "beat", |_| true).await;
    for (queue, sees) in [("default", true), ("post", false)] {
        let actor = Actor::new("narrow", Role::Admin).only_queues([queue]);
        let access = Access::from_request(move |_| std::future::ready(Some(actor.clone())));
        let router = Admin::new(&tasks, access).router();
        for path in ["/workers", "/api/v1/instances"] {
            let request = axum::http::Request::get(path).body(axum::body::Body::empty()).unwrap();
            let body = soon(router.clone().oneshot(request)).await.unwrap().into_body();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&body).contains("beat"), sees, "{path} for {queue}");
        }
    }
    tasks.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_sees_the_tasks_of_all_live_processes() {
    for place in everywhere() {
        let viewer = place.builder().connect().await.unwrap();
        assert_eq!(viewer.tasks().await.unwrap(), [], "a process that only connects has none");
        let first = start(&place, "mail").await;
        let own = first.tasks().await.unwrap();
        assert_eq!(own.len(), 1, "a process knows its own at once");
        let second = start(&place, "report").await;
        let third = start(&place, "mail").await;
        let both = ["mail", "report"];
        let seen = eventually("two processes run `mail`", || async {
            let seen = tasks_named(&viewer, &both).await;
            (seen[0].known_by == 2).then_some(seen)
        })
        .await;
        let expected = json!([
            {
                "name": "mail", "aliases": ["letter"], "summary": "Writes to a customer.", "queue": "post",
                "priority": 7, "retries": 3, "delay": 2.0, "backoff": 1.5, "max_delay": 60.0, "jitter": 0.1,
                "timeout": 30.0, "eager": false, "is_blocking": false, "requeue_on_interrupt": true,
                "max_snoozes": 100, "max_lost_runs": 3,
                "parameters": [
                    {"name": "to", "type": "Vec<(String, u32)>", "is_optional": false},
                    {"name": "copy", "type": "Option<String>", "is_optional": true},
                    {"name": "loud", "type": "bool", "is_optional": true},
                ],
                "known_by": 2, "differs": false,
            },
            {
                "name": "report", "aliases": [], "summary": null, "queue": "default",
                "priority": 0, "retries": 0, "delay": 1.0, "backoff": 2.0, "max_delay": 3600.0, "jitter": 0.1,
                "timeout": null, "eager": true, "is_blocking": true, "requeue_on_interrupt": false,
                "max_snoozes": 100, "max_lost_runs": 3,
                "parameters": [{"name": "year", "type": "u16", "is_optional": false}],
                "known_by": 1, "differs": false,
            },
        ]);
        assert_eq!(serde_json::to_value(&seen).unwrap(), expected, "{place:?}");
        assert_eq!(serde_json::from_value::<Vec<TaskInfo>>(expected).unwrap(), seen);
        for tasks in [&first, &second, &third] {
            assert_eq!(tasks_named(tasks, &both).await[1], seen[1], "{place:?}");
        }
        second.shutdown(Duration::ZERO).await.unwrap();
        third.shutdown(Duration::ZERO).await.unwrap();
        let left = eventually("one process is left", || async {
            let left = tasks_named(&viewer, &["mail"]).await;
            (left[0].known_by == 1).then_some(left)
        })
        .await;
        assert!(!left[0].differs);
        first.shutdown(Duration::ZERO).await.unwrap();
        assert_eq!(tasks_named(&viewer, &[]).await, []);
        viewer.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_only_connects_sees_the_queues_of_the_others() {
    for place in everywhere() {
        let config = QueueConfig::new().concurrency(2).max_size(50);
        let builder = place.builder().queue("post", config.clone()).queue("elsewhere", QueueConfig::new());
        let worker = builder.run_queues(["default", "post"]).only(["mail"]).start().await.unwrap();
        let viewer = place.builder().connect().await.unwrap();
        let post = queue(&viewer, "post", |queue| queue.served_by == 1).await;
        assert_eq!(
            (post.concurrency, post.max_size, post.limits_from),
            (config.concurrency, config.max_size, LimitsFrom::Program),
            "{place:?}"
        );
        let elsewhere = queue(&viewer, "elsewhere", |_| true).await;
        assert_eq!(elsewhere.served_by, 0, "{place:?}");
        viewer.set_queue("post", QueueConfig::new().concurrency(1)).await.unwrap();
        let post = queue(&viewer, "post", |queue| queue.limits_from == LimitsFrom::Store).await;
        assert_eq!((post.concurrency, post.max_size, post.served_by), (Some(1), None, 1), "{place:?}");

        worker.shutdown(Duration::ZERO).await.unwrap();
        queue(&viewer, "post", |queue| queue.served_by == 0).await;
        viewer.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_of_a_program_are_told_apart_and_each_shows_what_only_it_has() {
    for place in everywhere() {
        if matches!(place, Place::Memory(_)) {
            continue;
        }
        let viewer = place.builder().connect().await.unwrap();
        let older = start(&place, "beat").await;
        let newer = NextVersion::start(&place);
        let seen = eventually("both versions are seen", || async {
            let found = tasks_named(&viewer, &["beat", "yearly"]).await;
            found.into_iter().find(|beat| beat.known_by == 2)
        })
        .await;
        assert!(seen.differs, "{place:?}");
        assert_eq!(seen.priority, 2, "the process that started last is shown: {place:?}");
        assert_eq!(seen.summary.as_deref(), Some("Beats four times a second."));
        let later = queue(&viewer, "later", |queue| queue.served_by == 1).await;
        assert_eq!(later.concurrency, Some(3), "{place:?}");
        let yearly = schedule(&viewer, "yearly", |yearly| yearly.trigger.is_some()).await;
        assert_eq!(
            (yearly.task.as_deref(), yearly.trigger.as_deref(), yearly.timezone.as_deref()),
            (Some("yearly"), Some("0 0 1 1 *"), Some("Europe/Paris")),
            "{place:?}"
        );
        assert!(yearly.next_run.is_some() && !yearly.stored, "{place:?}");
        newer.stop();
        let seen = eventually("the next version is gone", || async {
            let found = tasks_named(&viewer, &["beat"]).await;
            found.into_iter().find(|beat| beat.known_by == 1)
        })
        .await;
        assert!(!seen.differs && seen.priority == 1, "{place:?}");
        older.shutdown(Duration::ZERO).await.unwrap();
        viewer.shutdown(Duration::ZERO).await.unwrap();
    }
}

/// A store in which call number `n` (from 0) for documents fails if `fails(n)` is an error.
fn failing(fails: impl Fn(usize) -> Option<StoreErrorKind> + Send + Sync + 'static) -> Wrapper {
    let calls = AtomicUsize::new(0);
    Wrapper::new(Arc::new(MemoryStore::new()), move |call| {
        if !call.contains("documents") {
            return go_on();
        }
        let error = fails(calls.fetch_add(1, Ordering::SeqCst));
        let answer = error.map_or(Ok(()), |kind| Err(StoreError::new(kind, "no documents now")));
        Box::pin(std::future::ready(answer))
    })
}

#[tokio::test]
async fn a_store_that_keeps_no_documents_shows_what_this_process_has() {
    let store = failing(|_| Some(StoreErrorKind::Unsupported));
    let tasks = TaskManager::builder()
        .store(store.clone())
        .queue("post", QueueConfig::new())
        .only(["mail"])
        .start()
        .await
        .unwrap();
    assert_eq!(tasks_named(&tasks, &["mail"]).await[0].known_by, 1);
    assert_eq!(queue(&tasks, "post", |_| true).await.served_by, 1);
    let viewer = TaskManager::builder().store(store).connect().await.unwrap();
    assert_eq!(viewer.tasks().await.unwrap(), []);
    viewer.queues().await.unwrap();
    viewer.schedules().await.unwrap();
    assert!(tasks.health().is_healthy(), "{:?}", tasks.health());
}

#[tokio::test]
async fn a_failed_write_of_the_catalogue_is_repeated_and_keeps_no_worker_from_starting() {
    let store = failing(|call| (call < 3).then_some(StoreErrorKind::Unavailable));
    let tasks = TaskManager::builder().store(store.clone()).only(["report"]).start().await.unwrap();
    soon(soon(tasks.add(report(2026))).await.unwrap().wait()).await.unwrap();
    let viewer = TaskManager::builder().store(store).connect().await.unwrap();
    eventually("the other process sees it", || async {
        // The first reads may fail too.
        viewer.tasks().await.ok().filter(|tasks| tasks.len() == 1)
    })
    .await;
    assert!(tasks.health().is_healthy(), "{:?}", tasks.health());
}
