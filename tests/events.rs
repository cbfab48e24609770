//! Which events subscribers receive, and in which order.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use support::{Gate, Place, eventually, soon};
use taskflow::{State, TaskContext, TaskError, TaskEvent, TaskId, TaskManager, model::TaskEventKind};

#[taskflow::task(retries = 2, delay = "1ms", backoff = 1.0, jitter = 0.0)]
async fn third_time(context: TaskContext) -> Result<(), String> {
    if context.attempt() < 3 { Err(format!("no {}", context.attempt())) } else { Ok(()) }
}

#[taskflow::task]
async fn ping() {}

#[taskflow::task]
async fn fail() -> Result<(), TaskError> {
    Err(TaskError::abort("for good"))
}

#[taskflow::task(requeue_on_interrupt)]
async fn block(State(gate): State<Gate>) {
    gate.pass().await;
}

async fn start(place: &Place) -> (TaskManager, Gate) {
    let gate = Gate::default();
    (place.builder().state(gate.clone()).start().await.unwrap(), gate)
}

/// The kinds of the next events of one task, until one of them satisfies `last`.
async fn kinds(
    events: &mut (impl Stream<Item = TaskEvent> + Unpin),
    id: TaskId,
    last: impl Fn(&TaskEventKind) -> bool,
) -> Vec<TaskEventKind> {
    let mut kinds = Vec::new();
    loop {
        let event = soon(events.next()).await.expect("the manager lives");
        if event.id == id {
            kinds.push(event.kind.clone());
            if last(&event.kind) {
                return kinds;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_is_added_started_succeeded() {
    use TaskEventKind::{Added, Started, Succeeded};
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        let mut events = tasks.subscribe();
        for _ in 0..50 {
            let handle = tasks.add_task(ping, ()).await.unwrap();
            let seen = kinds(&mut events, handle.id(), |kind| *kind == Succeeded).await;
            assert_eq!(seen, [Added, Started { attempt: 1 }, Succeeded]);
        }
        // These tasks are claimed, not leased by their add.
        let handles = tasks.add_all((0..500).map(|_| tasks.add_task(ping, ()))).await.unwrap();
        let events: Vec<_> = soon(events.take(handles.len() * 3).collect::<Vec<_>>()).await;
        for handle in handles {
            let of_it = events.iter().filter(|event| event.id == handle.id());
            let seen: Vec<_> = of_it.map(|event| event.kind.clone()).collect();
            assert_eq!(seen, [Added, Started { attempt: 1 }, Succeeded]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_says_why_and_when() {
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        let mut events = tasks.subscribe();
        let handle = tasks.add_task(third_time, ()).await.unwrap();
        let seen = kinds(&mut events, handle.id(), |kind| *kind == TaskEventKind::Succeeded).await;
        use TaskEventKind::{Added, Retrying, Started, Succeeded};
        let retrying = |error: &str| Retrying { error: error.to_owned(), delay: Duration::from_millis(1) };
        let expected = [
            Added,
            Started { attempt: 1 },
            retrying("no 1"),
            Started { attempt: 2 },
            retrying("no 2"),
            Started { attempt: 3 },
            Succeeded,
        ];
        assert_eq!(seen, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_and_a_cancel_are_told_once() {
    use TaskEventKind::{Added, Cancelled, Failed, Started};
    for place in Place::each() {
        let (tasks, gate) = start(&place).await;
        let mut events = tasks.subscribe();
        let handle = tasks.add_task(fail, ()).await.unwrap();
        let failed = Failed { error: "for good".to_owned() };
        let seen = kinds(&mut events, handle.id(), |kind| *kind == failed).await;
        assert_eq!(seen, [Added, Started { attempt: 1 }, failed]);

        let handle = tasks.add_task(ping, ()).run_in(Duration::from_secs(3600)).await.unwrap();
        tasks.cancel(handle.id()).await.unwrap();
        assert_eq!(kinds(&mut events, handle.id(), |kind| *kind == Cancelled).await, [Added, Cancelled]);

        let handle = tasks.add_task(block, ()).await.unwrap();
        gate.reached(1).await;
        tasks.cancel(handle.id()).await.unwrap();
        let seen = kinds(&mut events, handle.id(), |kind| *kind == Cancelled).await;
        assert_eq!(seen, [Added, Started { attempt: 1 }, Cancelled]);
        soon(tasks.add_task(ping, ()).await.unwrap().wait()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_is_in_the_store_already() {
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        let mut events = tasks.subscribe();
        for _ in 0..20 {
            let handle = tasks.add_task(ping, ()).await.unwrap();
            kinds(&mut events, handle.id(), |kind| *kind == TaskEventKind::Succeeded).await;
            let task = support::record(&tasks, handle.id()).await;
            assert_eq!(task.status, taskflow::TaskStatus::Success);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_that_hands_back_says_so() {
    let (tasks, gate) = start(&Place::memory()).await;
    let mut events = tasks.subscribe();
    let handle = tasks.add_task(block, ()).await.unwrap();
    gate.reached(1).await;
    tasks.shutdown(Duration::ZERO).await.unwrap();
    let seen = kinds(&mut events, handle.id(), |kind| *kind == TaskEventKind::HandedBack).await;
    assert_eq!(seen.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_falls_behind_misses_the_oldest_and_goes_on() {
    let (tasks, _) = start(&Place::memory()).await;
    let mut events = tasks.subscribe();
    let handles = tasks.add_all((0..3000).map(|_| tasks.add_task(ping, ()))).await.unwrap();
    eventually("all ran", || async { (tasks.counts().await.unwrap().success == 3000).then_some(()) }).await;
    let last = tasks.add_task(ping, ()).await.unwrap();
    kinds(&mut events, last.id(), |kind| *kind == TaskEventKind::Succeeded).await;
    drop(handles);
}
