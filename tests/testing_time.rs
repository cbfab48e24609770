//! The test kit: time and faults.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

use std::time::{Duration, Instant, SystemTime};

use axum::body::{Body, to_bytes};
use axum::http::Request;
use taskflow::testing::{Fault, FaultyStore, Op, TestTasks};
use taskflow::web::Role;
use taskflow::{AddError, TaskError, TaskManager, TaskStatus};
use tower::ServiceExt;

#[taskflow::schedule(cron = "0 30 2 * * *", timezone = "Europe/Berlin")]
async fn nightly() -> Result<(), TaskError> {
    Ok(())
}

#[taskflow::task(retries = 2, delay = "10m", backoff = 2.0, jitter = 0.0)]
async fn import(n: u32) -> Result<u32, TaskError> {
    Ok(n)
}

#[taskflow::task(requeue_on_interrupt = true, timeout = "30s")]
async fn sync(n: u32) -> Result<u32, TaskError> {
    Ok(n)
}

#[taskflow::task]
async fn once(n: u32) -> Result<u32, TaskError> {
    Ok(n)
}

async fn only(names: [&'static str; 1]) -> TestTasks {
    TestTasks::new().only(names).start().await
}

fn seconds(record: &taskflow::TaskRecord, since: SystemTime) -> Vec<u64> {
    let at = |at: SystemTime| at.duration_since(since).unwrap().as_secs();
    record.attempts.iter().map(|attempt| at(attempt.started_at)).collect()
}

#[tokio::test]
async fn a_year_of_a_nightly_schedule_passes_in_a_moment() {
    let began = Instant::now();
    let t = TestTasks::new().only(["nightly"]).starts_at("2026-01-01T00:00:00Z");
    let t = t.configure(|tasks| tasks.retention(Duration::from_secs(3650 * 24 * 3600))).start().await;
    let drained = t.advance("365d").await;
    assert_eq!((drained.succeeded, t.added(nightly).len()), (365, 365));
    let first = t.records().remove(0);
    assert_eq!(first.scheduled_for, Some(moment("2026-01-01T01:30:00Z")));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[tokio::test]
async fn time_passes_in_parts_as_short_as_a_test_wants_them() {
    let t = only(["once"]).await;
    let before = t.now();
    for _ in 0..3 {
        t.advance(Duration::from_nanos(500)).await;
    }
    assert_eq!(t.now().duration_since(before).unwrap(), Duration::from_nanos(1500));
}

fn moment(text: &str) -> SystemTime {
    taskflow::testing::Moment::moment(text)
}

#[tokio::test]
async fn a_schedule_keeps_its_local_time_over_both_changes_of_the_clocks() {
    let ticks = |from: &'static str| async move {
        let t = TestTasks::new().only(["nightly"]).starts_at(from).start().await;
        t.advance("3d").await;
        t.records().iter().map(|record| record.scheduled_for.unwrap()).collect::<Vec<_>>()
    };
    // 02:30 does not exist on 29 March, and exists twice on 25 October.
    let spring = ticks("2026-03-28T00:00:00Z").await;
    assert_eq!(spring[0], moment("2026-03-28T01:30:00Z"));
    assert_eq!(*spring.last().unwrap(), moment("2026-03-30T00:30:00Z"));
    let autumn = ticks("2026-10-24T00:00:00Z").await;
    assert_eq!(autumn[0], moment("2026-10-24T00:30:00Z"));
    assert_eq!((autumn.len(), autumn[2]), (3, moment("2026-10-26T01:30:00Z")));
}

#[tokio::test]
async fn retries_run_at_their_times() {
    let t = only(["import"]).await;
    let began = t.now();
    let handle = t.manager().add(import(1)).await.unwrap();
    for _ in 0..3 {
        t.fail_next(import, TaskError::from(std::io::Error::other("away")));
    }
    t.advance("1h").await;
    let record = t.record(&handle);
    assert_eq!((seconds(&record, began), record.status), (vec![0, 600, 1800], TaskStatus::Failed));
}

#[tokio::test]
async fn a_timeout_an_expiry_and_the_retention_come_at_their_times() {
    let t = TestTasks::new().only(["sync"]).configure(|tasks| tasks.retention(Duration::from_secs(3600)));
    let t = t.start().await;
    t.hang_next(sync);
    let slow = t.manager().add(sync(1)).await.unwrap();
    t.advance("29s").await;
    assert_eq!(t.record(&slow).status, TaskStatus::Running);
    t.advance("1s").await;
    assert_eq!(t.record(&slow).status, TaskStatus::Failed);

    let late = t.manager().add_task(once, (1,)).expires_in(Duration::from_secs(60)).await.unwrap();
    t.advance("2m").await;
    assert_eq!(t.record(&late).status, TaskStatus::Cancelled);
    t.advance("2h").await;
    assert_eq!(t.records().len(), 0, "both are past their retention");
}

#[tokio::test]
async fn a_long_run_keeps_its_lease_while_time_passes() {
    let t = only(["once"]).await;
    let handle = t.manager().add(once(1)).await.unwrap();
    let held = t.hold_next(once);
    t.drain().await;
    t.advance("1h").await;
    assert_eq!(t.record(&handle).status, TaskStatus::Running);
    held.open();
    assert_eq!(t.drain().await.succeeded, 1);
    assert_eq!(t.manager().health().lost_leases, 0);
}

#[tokio::test]
async fn work_of_a_killed_worker_runs_again_after_its_lease() {
    let t = TestTasks::new().only(["sync", "once"]).start().await;
    let (again, never) = (t.manager().add(sync(1)).await.unwrap(), t.manager().add(once(1)).await.unwrap());
    t.hang_next(sync);
    t.hang_next(once);
    t.drain().await;
    t.kill_worker().await;
    t.second_worker().await;
    t.advance("9s").await;
    assert_eq!(t.record(&again).status, TaskStatus::Running, "nobody knows yet");
    t.advance("5s").await;
    assert_eq!(t.record(&again).status, TaskStatus::Success);
    assert_eq!(t.record(&never).status, TaskStatus::Interrupted);
}

#[tokio::test]
async fn the_late_result_of_a_frozen_worker_is_refused() {
    let t = TestTasks::new().only(["sync"]).start().await;
    let handle = t.manager().add(sync(1)).await.unwrap();
    let held = t.hold_next(sync);
    t.drain().await;
    t.freeze_worker().await;
    t.second_worker().await;
    t.advance("15s").await;
    let record = t.record(&handle);
    assert_eq!(
        (record.status, record.attempt),
        (TaskStatus::Success, record.attempts.last().unwrap().number)
    );
    held.open();
    t.thaw().await;
    t.advance("1s").await;
    assert_eq!(t.record(&handle), record, "the first run can write nothing any more");
}

#[tokio::test]
async fn a_lost_lease_stops_the_run_that_had_it() {
    let t = TestTasks::new().only(["sync"]).start().await;
    let handle = t.manager().add(sync(1)).await.unwrap();
    let held = t.hold_next(sync);
    t.drain().await;
    t.expire_leases().await;
    held.open();
    t.advance("10s").await;
    let record = t.record(&handle);
    assert_eq!((record.status, record.attempts.len()), (TaskStatus::Success, 2));
}

#[tokio::test]
async fn faults_of_the_store_are_survived_in_test_time() {
    let t = only(["once"]).await;
    t.fault(Fault::error(Op::Insert));
    t.fault(Fault::lose_answer(Op::Insert));
    let manager = t.manager().clone();
    let add = tokio::spawn(async move { manager.add(once(1)).await });
    t.advance("1s").await;
    let handle = add.await.unwrap().unwrap();
    t.assert_added(once).once();

    let added = t.manager().add(once(2)).await.unwrap();
    t.fault(Fault::lose_answer(Op::Finish).times(2));
    t.fault(Fault::delay(Op::Claim, "3s"));
    t.drain().await;
    t.advance("20s").await;
    assert_eq!((t.record(&handle).attempts.len(), t.record(&added).attempts.len()), (1, 1));
    assert_eq!(t.record(&added).status, TaskStatus::Success);

    t.fault(Fault::away());
    let manager = t.manager().clone();
    let add = tokio::spawn(async move { manager.add(once(3)).await });
    t.advance("10s").await;
    assert!(matches!(add.await.unwrap(), Err(AddError::Store(_))));
    t.back();
    t.manager().add(once(4)).await.unwrap();
    t.advance("10s").await;
    assert!(t.manager().health().is_healthy(), "{:?}", t.manager().health());
}

#[tokio::test]
async fn faults_around_a_real_store_are_seen_and_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let store = FaultyStore::around(format!("sqlite://{}", dir.path().join("tasks.db").display())).unwrap();
    let tasks = TaskManager::builder().store(store.clone()).only(["once"]).start().await.unwrap();
    store.fault(Fault::lose_answer(Op::Insert));
    store.fault(Fault::error(Op::Claim).times(3));
    let handle = tasks.add(once(1)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), handle.wait()).await.unwrap().unwrap();
    assert_eq!(tasks.counts().await.unwrap().success, 1);
    store.fault(Fault::full_disk());
    assert!(tasks.add_task(once, (2,)).await.is_err());
    assert!(tasks.counts().await.is_ok());
    store.back();
    tasks.add(once(3)).await.unwrap().wait().await.unwrap();
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test]
async fn the_wall_clock_can_be_set_back_and_nothing_runs_twice() {
    let t = TestTasks::new().only(["nightly"]).starts_at("2026-06-01T00:00:00Z").start().await;
    t.advance("1h").await;
    assert_eq!(t.added(nightly).len(), 1);
    t.set_clock("2026-06-01T00:00:00Z");
    t.advance("2h").await;
    assert_eq!(t.added(nightly).len(), 1, "the tick of half past two was fired before");
}

#[taskflow::task]
async fn stuck() -> Result<(), TaskError> {
    std::future::pending().await
}

#[tokio::test]
async fn a_body_that_does_not_end_fails_the_drain_with_its_name() {
    let t = TestTasks::new().only(["stuck"]).patience(Duration::from_millis(50)).start().await;
    t.manager().add(stuck()).await.unwrap();
    let drained = tokio::spawn(async move { t.drain().await }).await;
    let panic = drained.unwrap_err().into_panic();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("these still run: `stuck`"), "{text}");
}

/// The body of an answer to an admin.
async fn shown(t: &TestTasks, request: axum::http::request::Builder) -> String {
    let answer = t.admin(Role::Admin).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    String::from_utf8(to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn the_api_the_dashboard_and_the_audit_log_show_the_time_of_the_test() {
    let t = TestTasks::new().only(["once"]).starts_at("2031-07-01T00:00:00Z").start().await;
    let task = t.manager().add_task(once, (1,)).run_in(Duration::from_secs(3600)).await.unwrap();
    t.manager().pause_queue("default").await.unwrap();
    for (phase, word) in [("scheduled", "Scheduled"), ("waiting", "Waiting")] {
        let whole = shown(&t, Request::get(format!("/api/v1/tasks/{task}"))).await;
        assert!(whole.contains(&format!("\"phase\":\"{phase}\"")), "{whole}");
        let found = shown(&t, Request::get(format!("/api/v1/tasks?phase={phase}"))).await;
        assert!(found.contains(&task.to_string()), "{phase}: {found}");
        assert!(found.contains(&format!("\"phase\":\"{phase}\"")), "{found}");
        for format in ["csv", "ndjson"] {
            let export = shown(&t, Request::get(format!("/api/v1/export.{format}"))).await;
            assert!(export.contains(phase), "{format}: {export}");
        }
        for page in [format!("/tasks/{task}"), "/tasks".to_owned()] {
            let page = shown(&t, Request::get(page)).await;
            assert!(page.contains(&format!(">{word}</span>")), "{word}: {page}");
        }
        t.advance("2h").await;
    }
    shown(&t, Request::post(format!("/api/v1/tasks/{task}/cancel"))).await;
    t.advance("1h").await;
    shown(&t, Request::post(format!("/api/v1/tasks/{task}/retry"))).await;
    let audit = shown(&t, Request::get("/api/v1/audit")).await;
    assert!(audit.contains("\"at\":\"2031-07-01T04:00:00Z\""), "{audit}");
    let since = shown(&t, Request::get("/api/v1/audit?since=2031-07-01T04:30:00Z")).await;
    assert!(since.contains("\"retry\"") && !since.contains("\"cancel\""), "{since}");
    let audit = shown(&t, Request::get("/audit")).await;
    assert!(audit.contains("2031-07-01 05:00"), "{audit}");
}
