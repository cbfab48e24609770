//! The value that a task returned, for callers that wait and for readers of its record.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use support::{Gate, Place, ends, record, soon};
use taskflow::{State, TaskFilter, TaskHandle, TaskId, TaskManager, TaskStatus};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Report {
    total: u128,
    share: f64,
    note: Option<String>,
}

#[taskflow::task]
async fn report(total: u128) -> Result<Report, String> {
    Ok(Report { total, share: 0.1 + 0.2, note: None })
}

#[taskflow::task]
async fn nothing() {}

#[taskflow::task]
async fn perhaps(some: bool) -> Result<Option<u8>, String> {
    Ok(some.then_some(7))
}

#[taskflow::task]
fn divide(a: f64, b: f64) -> Result<f64, String> {
    Ok(a / b)
}

#[taskflow::task(retries = 3)]
async fn bulky(bytes: usize) -> Result<String, String> {
    Ok("x".repeat(bytes))
}

#[taskflow::task]
async fn fail() -> Result<u8, String> {
    Err("there is no paper".to_owned())
}

#[taskflow::task]
async fn block(State(gate): State<Gate>) -> Result<u8, String> {
    gate.pass().await;
    Ok(1)
}

async fn start(place: &Place) -> (TaskManager, Gate) {
    let gate = Gate::default();
    (place.builder().state(gate.clone()).start().await.unwrap(), gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_gives_the_value_with_its_type_also_in_another_process() {
    for place in Place::each() {
        let (_running, _) = start(&place).await;
        let adding = place.builder().connect().await.unwrap();
        let handle = adding.add(report(u128::MAX)).await.unwrap();
        let value: Report = soon(handle.wait()).await.unwrap();
        assert_eq!(value, Report { total: u128::MAX, share: 0.1 + 0.2, note: None });
        soon(adding.add(nothing()).await.unwrap().wait()).await.unwrap();
        assert_eq!(soon(adding.add(perhaps(false)).await.unwrap().wait()).await.unwrap(), None);
        assert_eq!(soon(adding.add(perhaps(true)).await.unwrap().wait()).await.unwrap(), Some(7));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_may_wait_before_and_after_the_end() {
    for place in Place::each() {
        let (tasks, gate) = start(&place).await;
        let handle = tasks.add_task(block, ()).await.unwrap();
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let handle = handle.clone();
                tokio::spawn(async move { soon(handle.wait()).await })
            })
            .collect();
        gate.reached(1).await;
        assert!(tokio::time::timeout(Duration::from_millis(20), handle.wait()).await.is_err(), "it runs yet");
        gate.open();
        for waiter in waiting {
            assert_eq!(waiter.await.unwrap(), Ok(1));
        }
        assert_eq!(soon(handle.wait()).await, Ok(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_how_and_why() {
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        let handle = tasks.add(fail()).await.unwrap();
        let failure = soon(handle.wait()).await.unwrap_err();
        assert_eq!((failure.status(), failure.message()), (TaskStatus::Failed, "there is no paper"));
        assert_eq!(failure.id(), handle.id());
        assert!(failure.to_string().contains("failed: there is no paper"), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_deleted_record_is_told() {
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        let handle = tasks.add(report(1)).await.unwrap();
        soon(handle.wait()).await.unwrap();
        assert_eq!(tasks.delete_all(TaskFilter::all()).await.unwrap(), 1);
        assert!(tasks.get(handle.id()).await.unwrap().is_none());
        assert!(tasks.logs(handle.id()).await.unwrap().is_none());
        let failure = soon(handle.wait()).await.unwrap_err();
        assert!(failure.message().contains("deleted"), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_kept_is_a_failure_that_is_not_repeated() {
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        let infinite = ends(&tasks, tasks.add(divide(1.0, 0.0)).await.unwrap().id()).await;
        assert_eq!(infinite.status, TaskStatus::Failed);
        assert!(infinite.error.as_deref().unwrap().contains("result cannot be kept: JSON has no inf"));

        let fits = (1 << 20) - 2;
        assert_eq!(soon(tasks.add(bulky(fits)).await.unwrap().wait()).await.unwrap().len(), fits);
        let large = ends(&tasks, tasks.add(bulky(fits + 1)).await.unwrap().id()).await;
        assert_eq!((large.status, large.attempts.len()), (TaskStatus::Failed, 1));
        let error = large.error.unwrap();
        assert!(error.contains("1048577") && error.contains("1048576"), "{error}");
        assert_eq!(soon(tasks.add(divide(1.0, 4.0)).await.unwrap().wait()).await, Ok(0.25));
    }
}

#[tokio::test]
async fn a_handle_shows_and_serializes_as_its_id() {
    let (tasks, _) = start(&Place::memory()).await;
    let handle: TaskHandle<Report> = tasks.add(report(1)).await.unwrap();
    let copy = handle.clone();
    assert_eq!(copy.id(), handle.id());
    assert_eq!(handle.to_string().parse::<TaskId>().unwrap(), handle.id());
    assert_eq!(serde_json::to_value(&handle).unwrap(), serde_json::json!(handle.id().to_string()));
    let other = tasks.add(report(2)).await.unwrap();
    assert!(other.id() > handle.id(), "ids of one process grow");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_json_with_rfc_3339_instants() {
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        let handle = tasks.add(report(3)).tag("plan", "pro").await.unwrap();
        soon(handle.wait()).await.unwrap();
        let task = record(&tasks, handle.id()).await;
        let json = serde_json::to_value(&task).unwrap();
        assert_eq!(json["id"], handle.to_string());
        assert_eq!((&json["status"], &json["source"]), (&"success".into(), &"manager".into()));
        assert_eq!(json["args"], serde_json::json!({"total": 3}));
        assert_eq!(json["result"]["share"], 0.1 + 0.2);
        assert_eq!(json["tags"], serde_json::json!({"plan": "pro"}));
        assert_eq!(json["attempts"][0]["outcome"], "success");
        assert_eq!(json["attempts"][0]["number"], 1);
        for field in ["created_at", "run_at", "started_at", "finished_at"] {
            let instant = json[field].as_str().unwrap();
            let digits: String = instant.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            assert!(digits.starts_with("0000-00-00T00:00:00") && digits.ends_with('Z'), "{field}: {instant}");
        }
        for field in ["error", "idempotency_key", "run_key", "scheduled_for", "progress"] {
            assert!(json[field].is_null(), "{field}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_paged_newest_first_without_gaps() {
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        let handles = tasks.add_all((0..25).map(report)).await.unwrap();
        let mut expected: Vec<_> = handles.iter().map(TaskHandle::id).collect();
        expected.reverse();
        let mut filter = TaskFilter::new().name("report").limit(10);
        let (mut seen, mut sizes) = (Vec::new(), Vec::new());
        loop {
            let page = tasks.list(filter.clone()).await.unwrap();
            seen.extend(page.items.iter().map(|task| task.id));
            sizes.push(page.items.len());
            let Some(next) = page.next else { break };
            filter = filter.after(next);
        }
        assert_eq!((seen, sizes), (expected, vec![10, 10, 5]));
    }
}
