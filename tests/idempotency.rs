//! One task for one idempotency key; and replacing a task that still waits.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use support::{Gate, Notes, Place, ends, record, soon};
use taskflow::{Error, State, TaskManager, TaskManagerBuilder, TaskStatus, task::IntoNewTask};

#[taskflow::task]
async fn note(State(notes): State<Notes<u32>>, n: u32) {
    notes.write(n);
}

#[taskflow::task]
async fn block(State(gate): State<Gate>) {
    gate.pass().await;
}

#[taskflow::task]
async fn fail() -> Result<(), String> {
    Err("no".to_owned())
}

fn builder(place: &Place) -> (TaskManagerBuilder, Gate, Notes<u32>) {
    let (gate, notes) = (Gate::default(), Notes::default());
    (place.builder().state(gate.clone()).state(notes.clone()), gate, notes)
}

async fn start(place: &Place) -> (TaskManager, Gate, Notes<u32>) {
    let (builder, gate, notes) = builder(place);
    (builder.start().await.unwrap(), gate, notes)
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn many_adds_of_one_key_at_once_are_one_task_and_one_run() {
    for place in Place::each() {
        let (tasks, _, notes) = start(&place).await;
        let other = place.builder().state(Gate::default()).state(notes.clone()).start().await.unwrap();
        let adds = (0..64).map(|n| {
            let tasks = if n % 2 == 0 { &tasks } else { &other };
            tokio::spawn(tasks.add_task(note, (n,)).idempotency_key("welcome:42").into_future())
        });
        let mut ids = HashSet::new();
        let mut first = 0;
        for add in adds.collect::<Vec<_>>() {
            let handle = add.await.unwrap().unwrap();
            soon(handle.wait()).await.unwrap();
            ids.insert(handle.id());
            first += usize::from(!handle.is_duplicate());
        }
        assert_eq!((ids.len(), first), (1, 1));
        assert_eq!(tasks.counts().await.unwrap().total(), 1);
        assert_eq!(notes.read().len(), 1);
        assert_eq!(record(&tasks, *ids.iter().next().unwrap()).await.attempts.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_held_while_its_task_waits_runs_or_has_succeeded() {
    for place in Place::each() {
        let (tasks, gate, _) = start(&place).await;
        let add = || tasks.add_task(block, ()).idempotency_key("k");
        let first = add().await.unwrap();
        gate.reached(1).await;
        assert!(!first.is_duplicate());
        let running = add().await.unwrap();
        assert!(running.is_duplicate() && running.id() == first.id());
        gate.open();
        soon(running.wait()).await.unwrap();
        let succeeded = add().await.unwrap();
        assert!(succeeded.is_duplicate() && succeeded.id() == first.id());

        let waiting = tasks.add_task(note, (1,)).idempotency_key("k").run_in(HOUR).await.unwrap();
        assert!(!waiting.is_duplicate(), "a key belongs to the tasks of one name");
        assert!(tasks.add_task(note, (2,)).idempotency_key("k").await.unwrap().is_duplicate());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_free_again_when_its_task_failed_or_was_cancelled() {
    for place in Place::each() {
        let (tasks, ..) = start(&place).await;
        let add = || tasks.add_task(fail, ()).idempotency_key("k");
        let first = add().await.unwrap();
        assert_eq!(ends(&tasks, first.id()).await.status, TaskStatus::Failed);
        let second = add().run_in(HOUR).await.unwrap();
        assert!(!second.is_duplicate() && second.id() != first.id());

        let error = tasks.retry(first.id()).await.unwrap_err();
        assert!(matches!(error, Error::KeyTaken { holder, .. } if holder == second.id()), "{error}");

        tasks.cancel(second.id()).await.unwrap();
        let third = add().await.unwrap();
        assert!(!third.is_duplicate() && third.id() != second.id());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_key_replaces_what_waits_for_its_first_attempt() {
    for place in Place::each() {
        let (tasks, _, notes) = start(&place).await;
        let add = |n: u32| tasks.add_task(note, (n,)).run_key("digest:7");
        let first = add(1).run_in(HOUR).tag("round", 1).await.unwrap();
        assert!(!first.is_replacement());
        let second = add(2).run_in(HOUR * 2).priority(5).retries(4).tag("other", 2).await.unwrap();
        assert!(second.is_replacement() && second.id() == first.id() && !second.is_duplicate());
        let task = record(&tasks, first.id()).await;
        assert_eq!((task.args.get(), task.priority, task.max_attempts), (r#"{"n":2}"#, 5, 5));
        assert_eq!(task.tags.keys().collect::<Vec<_>>(), ["other"]);
        assert!(task.run_at > SystemTime::now() + HOUR);

        let third = add(3).await.unwrap();
        assert!(third.is_replacement());
        soon(third.wait()).await.unwrap();
        assert_eq!(notes.read(), [3]);

        let fourth = add(4).await.unwrap();
        assert!(!fourth.is_replacement() && fourth.id() != first.id());
        soon(fourth.wait()).await.unwrap();
        assert_eq!(notes.read(), [3, 4]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_task_is_not_replaced() {
    for place in Place::each() {
        let (tasks, gate, _) = start(&place).await;
        let first = tasks.add_task(block, ()).run_key("k").await.unwrap();
        gate.reached(1).await;
        let second = tasks.add_task(block, ()).run_key("k").await.unwrap();
        assert!(!second.is_replacement() && second.id() != first.id());
        gate.open();
        soon(second.wait()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_key_cancels_what_it_scheduled() {
    for place in Place::each() {
        let (tasks, ..) = start(&place).await;
        let keyed = tasks.add_task(note, (1,)).run_key("k").run_in(HOUR).await.unwrap();
        let other = tasks.add_task(note, (1,)).run_key("l").run_in(HOUR).await.unwrap();
        assert_eq!(tasks.cancel_by_run_key("k").await.unwrap(), 1);
        assert_eq!(tasks.cancel_by_run_key("k").await.unwrap(), 0);
        assert_eq!(record(&tasks, keyed.id()).await.status, TaskStatus::Cancelled);
        assert_eq!(record(&tasks, other.id()).await.status, TaskStatus::Pending);
        assert_eq!(soon(keyed.wait()).await.unwrap_err().status(), TaskStatus::Cancelled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_outlives_a_restart() {
    for place in Place::each() {
        let (tasks, ..) = start(&place).await;
        let first = tasks.add_task(note, (1,)).idempotency_key("k").await.unwrap();
        soon(first.wait()).await.unwrap();
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
        let (tasks, _, notes) = start(&place).await;
        let again =
            tasks.add_all([tasks.add_task(note, (2,)).idempotency_key("k").into_new_task()]).await.unwrap();
        assert!(again[0].is_duplicate() && again[0].id() == first.id());
        assert!(notes.read().is_empty());
    }
}
