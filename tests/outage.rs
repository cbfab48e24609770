//! A store that is away, or slow: adds say so in time, and what ran is written when it is back.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use support::{Gate, eventually, reaches, soon};
use taskflow::{
    AddError, LogLevel, MemoryStore, State, TaskContext, TaskManager, TaskStatus,
    model::{StoreError, StoreErrorKind},
};
use wrapper::Wrapper;

const WELL: u8 = 0;
const AWAY: u8 = 1;
const SLOW: u8 = 2;

/// A store in memory that does to each call what `mood` says.
fn moody(mood: &Arc<AtomicU8>) -> Wrapper {
    let mood = mood.clone();
    Wrapper::new(Arc::new(MemoryStore::new()), move |_| {
        let mood = mood.clone();
        Box::pin(async move {
            match mood.load(Ordering::Acquire) {
                AWAY => {
                    // An error takes its time too.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    return Err(StoreError::new(StoreErrorKind::Unavailable, "nobody is at home"));
                }
                SLOW => {
                    while mood.load(Ordering::Acquire) == SLOW {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
                _ => {}
            }
            Ok(())
        })
    })
}

#[taskflow::task]
async fn block(State(gate): State<Gate>, context: TaskContext) {
    context.log(LogLevel::Info, "first");
    gate.pass().await;
    context.log(LogLevel::Info, "last");
}

async fn start() -> (TaskManager, Gate, Arc<AtomicU8>) {
    let (gate, mood) = (Gate::default(), Arc::new(AtomicU8::new(WELL)));
    let store = moody(&mood);
    let builder =
        TaskManager::builder().store(store).state(gate.clone()).add_timeout(Duration::from_millis(200));
    (builder.start().await.unwrap(), gate, mood)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_waits_for_a_store_that_comes_back() {
    let (tasks, gate, mood) = start().await;
    mood.store(AWAY, Ordering::Release);
    let adding = tokio::spawn(tasks.add_task(block, ()).into_future());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!adding.is_finished());
    mood.store(WELL, Ordering::Release);
    adding.await.unwrap().unwrap();
    gate.reached(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_fails_in_time_when_the_store_stays_away_and_nothing_is_stored() {
    let (tasks, gate, mood) = start().await;
    mood.store(AWAY, Ordering::Release);
    let began = Instant::now();
    let adds = (0..5).map(|n| {
        let add = tasks.add_task(block, ());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(n * 30)).await;
            let began = Instant::now();
            (add.await, began.elapsed())
        })
    });
    for add in adds.collect::<Vec<_>>() {
        let (answer, took) = soon(add).await.unwrap();
        let error = answer.unwrap_err();
        assert!(matches!(error, AddError::Store(_)) && error.is_transient(), "{error}");
        assert!(error.to_string().contains("nobody is at home"), "{error}");
        assert!(took > Duration::from_millis(150) && took < Duration::from_millis(900), "{took:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(2));
    let health = tasks.health();
    assert!(!health.is_healthy() && health.store_errors > 0);
    assert_eq!(health.reason.as_deref(), Some("nobody is at home"));

    mood.store(WELL, Ordering::Release);
    eventually("it is well again", || async { tasks.health().is_healthy().then_some(()) }).await;
    assert_eq!((tasks.counts().await.unwrap().total(), gate.count()), (0, 0));
    // Every slot came back: as many as there are begin at once.
    tasks.add_all((0..64).map(|_| tasks.add_task(block, ()))).await.unwrap();
    gate.reached(64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_silent_store_ended_says_so() {
    let (gate, mood) = (Gate::default(), Arc::new(AtomicU8::new(WELL)));
    let store = moody(&mood);
    let builder = TaskManager::builder().store(store).state(gate.clone()).lease(Duration::from_millis(300));
    let tasks = builder.start().await.unwrap();
    let id = tasks.add_task(block, ()).await.unwrap().id();
    gate.reached(1).await;
    mood.store(SLOW, Ordering::Release);
    let reason = eventually("it is known", || async { tasks.health().reason }).await;
    assert_eq!(reason, "the store does not answer");
    eventually("it is stopped", || async { (tasks.health().running == 0).then_some(()) }).await;
    mood.store(WELL, Ordering::Release);
    let task = reaches(&tasks, id, TaskStatus::Interrupted).await;
    let error = task.error.unwrap();
    // Which of the two it is depends on whether the store noticed first.
    assert!(error.contains("lease could not be renewed") || error.contains("worker lost"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_whose_answer_does_not_come_is_unknown_in_time_and_may_be_looked_up() {
    let (tasks, gate, mood) = start().await;
    mood.store(SLOW, Ordering::Release);
    let adds = (0..5).map(|n| {
        let add = tasks.add_task(block, ());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(n * 30)).await;
            (add.await, Instant::now())
        })
    });
    let began = Instant::now();
    let mut unknown = Vec::new();
    for (n, add) in (0..5).zip(adds.collect::<Vec<_>>()) {
        let (answer, at) = soon(add).await.unwrap();
        match answer.unwrap_err() {
            AddError::Unknown { id, .. } => unknown.push(id),
            // It never was on its way.
            AddError::Store(_) => {}
            other => panic!("{other}"),
        }
        let took = at - began;
        assert!(took < Duration::from_millis(n * 30 + 200 + 300), "add {n} was told after {took:?}");
    }
    mood.store(WELL, Ordering::Release);
    assert!(!unknown.is_empty());
    for id in &unknown {
        eventually("what was on its way is stored", || async { tasks.get(*id).await.unwrap() }).await;
    }
    gate.reached(unknown.len()).await;
    assert_eq!(tasks.counts().await.unwrap().total(), unknown.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_during_an_outage_is_written_after_it_with_all_it_said() {
    let (tasks, gate, mood) = start().await;
    let handle = tasks.add_task(block, ()).await.unwrap();
    gate.reached(1).await;
    mood.store(AWAY, Ordering::Release);
    // Its first line cannot be stored.
    eventually("a report failed", || async { (!tasks.health().is_healthy()).then_some(()) }).await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    gate.open();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(tasks.health().claimed, 1, "it is kept until its end is durable");
    mood.store(WELL, Ordering::Release);
    reaches(&tasks, handle.id(), TaskStatus::Success).await;
    let lines = tasks.logs(handle.id()).await.unwrap().unwrap();
    let seen: Vec<_> = lines.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(seen, ["first", "last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_on_its_way_when_its_task_ends_arrives_before_the_end() {
    let rounds = (0..16).map(|_| {
        tokio::spawn(async {
            let (tasks, gate, mood) = start().await;
            let handle = tasks.add_task(block, ()).await.unwrap();
            gate.reached(1).await;
            mood.store(SLOW, Ordering::Release);
            // By now the first line is on its way, and goes no further.
            tokio::time::sleep(Duration::from_millis(300)).await;
            gate.open();
            tokio::time::sleep(Duration::from_millis(30)).await;
            mood.store(WELL, Ordering::Release);
            soon(handle.wait()).await.unwrap();
            let lines = tasks.logs(handle.id()).await.unwrap().unwrap();
            lines.into_iter().map(|line| line.message).collect::<Vec<_>>()
        })
    });
    for round in rounds.collect::<Vec<_>>() {
        assert_eq!(round.await.unwrap(), ["first", "last"]);
    }
}
