//! The end of a process: the tasks that it waits for, those that it gives back, and those that it leaves.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use everywhere::everywhere;
use support::{Gate, Place, reaches, record, soon};
use taskflow::{
    AddError, AttemptOutcome, Error, MemoryStore, State, TaskContext, TaskFilter, TaskHandle, TaskManager,
    TaskManagerBuilder, TaskStatus,
    model::{StoreError, StoreErrorKind},
    task::IntoNewTask,
};
use wrapper::{Wrapper, go_on};

#[derive(Clone, Default)]
struct Doors {
    inside: Gate,
    dropped: Gate,
}

struct OnDrop(Gate);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.note();
    }
}

async fn hang(doors: Doors) {
    let _guard = OnDrop(doors.dropped.clone());
    doors.inside.pass().await;
}

#[taskflow::task]
async fn once(State(doors): State<Doors>) {
    hang(doors).await;
}

#[taskflow::task(retries = 2)]
async fn retried(State(doors): State<Doors>) {
    hang(doors).await;
}

#[taskflow::task(requeue_on_interrupt)]
async fn requeued(State(doors): State<Doors>) {
    hang(doors).await;
}

#[taskflow::task(requeue_on_interrupt)]
fn polite(State(doors): State<Doors>, context: TaskContext) {
    doors.inside.note();
    while !context.is_cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[taskflow::task(requeue_on_interrupt)]
fn stubborn(State(doors): State<Doors>) {
    doors.inside.pass_blocking();
}

#[taskflow::task]
async fn ping(State(doors): State<Doors>) {
    doors.dropped.note();
}

fn builder(place: &Place) -> (TaskManagerBuilder, Doors) {
    let doors = Doors::default();
    (place.builder().state(doors.clone()), doors)
}

async fn start(place: &Place) -> (TaskManager, Doors) {
    let (builder, doors) = builder(place);
    (builder.start().await.unwrap(), doors)
}

/// A manager that runs no tasks.
async fn look(place: &Place) -> TaskManager {
    place.builder().connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_before_the_deadline_is_waited_for() {
    for place in everywhere() {
        let (tasks, doors) = start(&place).await;
        let handles = tasks.add_all((0..3).map(|_| tasks.add_task(once, ()))).await.unwrap();
        doors.inside.reached(3).await;
        let ending = tokio::spawn({
            let tasks = tasks.clone();
            async move { tasks.shutdown(Duration::from_secs(60)).await }
        });
        // The shutdown claims nothing more, but accepts adds until it has ended.
        let late = support::eventually("it stops claiming", || async {
            let handle = tasks.add_task(ping, ()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            let task = record(&tasks, handle.id()).await;
            (task.status == TaskStatus::Pending).then_some(task.id)
        })
        .await;
        doors.inside.open();
        let report = soon(ending).await.unwrap().unwrap();
        assert!(report.finished >= 3, "{report:?}");
        // One of the late tasks may have been leased just before the shutdown began.
        assert_eq!((report.interrupted, report.abandoned), (0, 0), "{report:?}");
        let eye = look(&place).await;
        for handle in handles {
            assert_eq!(record(&eye, handle.id()).await.status, TaskStatus::Success);
        }
        assert_eq!(record(&eye, late).await.status, TaskStatus::Pending);
        assert_eq!(eye.counts().await.unwrap().running, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_short_goes_back_uncounted_if_it_may_run_again_and_is_interrupted_if_not() {
    for place in everywhere() {
        let (tasks, doors) = start(&place).await;
        let once = tasks.add_task(once, ()).await.unwrap();
        let retried = tasks.add_task(retried, ()).await.unwrap();
        let requeued = tasks.add_task(requeued, ()).await.unwrap();
        let polite = tasks.add_task(polite, ()).await.unwrap();
        doors.inside.reached(4).await;
        let report = soon(tasks.shutdown(Duration::from_millis(50))).await.unwrap();
        assert_eq!((report.finished, report.handed_back), (0, 3), "{report:?}");
        assert_eq!((report.interrupted, report.abandoned), (1, 0), "{report:?}");
        assert_eq!(doors.dropped.count(), 3);
        let eye = look(&place).await;
        for id in [retried.id(), requeued.id(), polite.id()] {
            let task = record(&eye, id).await;
            assert_eq!((task.status, task.attempt), (TaskStatus::Pending, 0), "{task:?}");
            let outcomes: Vec<_> = task.attempts.iter().map(|attempt| attempt.outcome).collect();
            assert_eq!(outcomes, [AttemptOutcome::HandedBack]);
        }
        let task = record(&eye, once.id()).await;
        assert_eq!((task.status, task.attempt), (TaskStatus::Interrupted, 1));
        assert_eq!(task.attempts[0].outcome, AttemptOutcome::Interrupted);
        assert_eq!(eye.counts().await.unwrap().running, 0);
        assert_eq!(soon(once.wait()).await.unwrap_err().status(), TaskStatus::Interrupted);

        let (_next, doors) = start(&place).await;
        doors.inside.open();
        doors.dropped.reached(2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stubborn_synchronous_task_is_abandoned_and_keeps_nobody_waiting() {
    for place in everywhere() {
        let (builder, doors) = builder(&place);
        let tasks = builder.lease(Duration::from_millis(100)).start().await.unwrap();
        let handle = tasks.add_task(stubborn, ()).await.unwrap();
        doors.inside.reached(1).await;
        let began = Instant::now();
        let report = tasks.shutdown(Duration::from_millis(50)).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!((report.abandoned, report.handed_back, report.interrupted, report.finished), (1, 0, 0, 0));

        // The thread of the task lives, so its lease is renewed, and nobody else may start the task.
        let (next, elsewhere) = start(&place).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(elsewhere.inside.count(), 0);
        assert_eq!(record(&next, handle.id()).await.status, TaskStatus::Running);
        // The task ends after all, and its result counts.
        doors.inside.open();
        support::reaches(&next, handle.id(), TaskStatus::Success).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_shutdown_waits_for_the_first_and_gets_the_same_report() {
    for place in everywhere() {
        let (tasks, doors) = start(&place).await;
        tasks.add_task(once, ()).await.unwrap();
        doors.inside.reached(1).await;
        let first = tokio::spawn({
            let tasks = tasks.clone();
            async move { tasks.shutdown(Duration::from_secs(60)).await }
        });
        support::eventually("the first has begun", || async {
            let handle = tasks.add_task(ping, ()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            (record(&tasks, handle.id()).await.status == TaskStatus::Pending).then_some(())
        })
        .await;
        let mut second = tokio::spawn({
            let tasks = tasks.clone();
            async move { tasks.shutdown(Duration::ZERO).await }
        });
        let early = tokio::time::timeout(Duration::from_millis(100), &mut second).await;
        assert!(early.is_err(), "it answered while the first still waits: {early:?}");
        doors.inside.open();
        let report = soon(first).await.unwrap().unwrap();
        assert!(report.finished > 0, "{report:?}");
        assert_eq!(soon(second).await.unwrap().unwrap(), report);
        assert_eq!(soon(tasks.shutdown(Duration::ZERO)).await.unwrap(), report, "the same report again");

        let connected = look(&place).await;
        let report = connected.shutdown(Duration::ZERO).await.unwrap();
        assert_eq!(connected.shutdown(Duration::ZERO).await.unwrap(), report);
    }
}

#[test]
fn a_shutdown_that_ends_with_its_runtime_is_an_error_and_keeps_nobody_waiting() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = Place::memory();
    let (tasks, doors) = runtime.block_on(start(&place));
    runtime.block_on(async {
        tasks.add_task(once, ()).await.unwrap();
        doors.inside.reached(1).await;
    });
    let elsewhere = tokio::runtime::Runtime::new().unwrap();
    let ending = elsewhere.spawn({
        let tasks = tasks.clone();
        async move { tasks.shutdown(Duration::from_secs(60)).await }
    });
    elsewhere.block_on(async {
        tokio::time::sleep(Duration::from_millis(20)).await;
    });
    drop(runtime);
    elsewhere.block_on(async {
        assert!(matches!(soon(ending).await.unwrap(), Err(Error::ShutDown)));
        assert!(matches!(soon(tasks.shutdown(Duration::ZERO)).await, Err(Error::ShutDown)));
    });
}

/// Cleans up for `millis` when it is asked to stop, and succeeds.
#[taskflow::task(requeue_on_interrupt)]
async fn clean_up(millis: u64, State(doors): State<Doors>, context: TaskContext) {
    doors.inside.note();
    context.cancelled().await;
    tokio::time::sleep(Duration::from_millis(millis)).await;
    doors.dropped.note();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_listens_cleans_up_after_the_deadline_and_goes_back() {
    for place in everywhere() {
        let (builder, doors) = builder(&place);
        let tasks = builder.cancel_grace(Duration::from_millis(1500)).start().await.unwrap();
        let handle = tasks.add_task(clean_up, (100,)).await.unwrap();
        let too_slow = tasks.add_task(clean_up, (60_000,)).await.unwrap();
        let deaf = tasks.add_task(stubborn, ()).await.unwrap();
        doors.inside.reached(3).await;
        let began = Instant::now();
        let report = tasks.shutdown(Duration::from_millis(50)).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(50 + 1500 + 2000), "{:?}", began.elapsed());
        assert_eq!((report.handed_back, report.abandoned), (2, 1), "{report:?}");
        assert_eq!(doors.dropped.count(), 1, "one had the time it needed, the other was dropped");
        doors.inside.open();
        let eye = look(&place).await;
        for id in [handle.id(), too_slow.id()] {
            let task = record(&eye, id).await;
            assert_eq!((task.status, task.attempt), (TaskStatus::Pending, 0), "{task:?}");
            assert_eq!(task.attempts[0].outcome, AttemptOutcome::HandedBack);
        }
        reaches(&eye, deaf.id(), TaskStatus::Success).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_the_store_cannot_be_told_is_no_abandoned_task() {
    let refuses = Arc::new(AtomicBool::new(false));
    let shared = MemoryStore::new();
    let store = Wrapper::new(Arc::new(shared.clone()), {
        let refuses = refuses.clone();
        move |call| {
            if refuses.load(Ordering::Acquire) && ["finish", "turn"].contains(&call) {
                let full = StoreError::new(StoreErrorKind::Unavailable, "the disk is full");
                return Box::pin(std::future::ready(Err(full)));
            }
            go_on()
        }
    });
    let doors = Doors::default();
    let builder = TaskManager::builder().store(store).state(doors.clone());
    let tasks = builder.cancel_grace(Duration::from_millis(100)).start().await.unwrap();
    let id = tasks.add_task(once, ()).await.unwrap().id();
    doors.inside.reached(1).await;
    refuses.store(true, Ordering::Release);
    doors.inside.open();
    doors.dropped.reached(1).await;
    let began = Instant::now();
    let report = tasks.shutdown(Duration::from_millis(100)).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(100 + 100 + 2000), "{:?}", began.elapsed());
    assert_eq!((report.unwritten, report.abandoned, report.finished), (1, 0, 0), "{report:?}");
    // The process lives, and stores the result after all.
    refuses.store(false, Ordering::Release);
    let eye = TaskManager::builder().store(shared).connect().await.unwrap();
    reaches(&eye, id, TaskStatus::Success).await;
    support::eventually("it leaves after that", || async {
        let instances = eye.instances().await.unwrap();
        instances.iter().all(|instance| !instance.runs).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_that_was_accepted_before_it_is_stored_when_the_shutdown_returns() {
    for place in everywhere() {
        let written = Gate::default();
        let store = Wrapper::new(place.store(), {
            let written = written.clone();
            move |call| {
                if call != "insert" {
                    return go_on();
                }
                let written = written.clone();
                Box::pin(async move {
                    written.pass().await;
                    Ok(())
                })
            }
        });
        let tasks = TaskManager::builder().store(store).connect().await.unwrap();
        let add = tokio::spawn(tasks.add_task(ping, ()).into_future());
        written.reached(1).await;
        let mut ending = tokio::spawn({
            let tasks = tasks.clone();
            async move { tasks.shutdown(Duration::ZERO).await }
        });
        let early = tokio::time::timeout(Duration::from_millis(300), &mut ending).await;
        assert!(early.is_err(), "{place:?}: it did not wait for the write: {early:?}");
        written.open();
        soon(ending).await.unwrap().unwrap();
        assert_eq!(place.store().counts().await.unwrap().pending, 1, "{place:?}");
        soon(add).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_goes_on_when_nobody_waits_for_it_any_more() {
    let place = Place::memory();
    let (tasks, doors) = start(&place).await;
    let handle = tasks.add_task(once, ()).await.unwrap();
    doors.inside.reached(1).await;
    let patience = Duration::from_millis(10);
    assert!(tokio::time::timeout(patience, tasks.shutdown(Duration::from_secs(60))).await.is_err());
    doors.inside.open();
    let eye = look(&place).await;
    support::reaches(&eye, handle.id(), TaskStatus::Success).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_its_last_clone_is_dropped_the_manager_stops_though_handles_of_tasks_remain() {
    for place in everywhere() {
        let (tasks, doors) = start(&place).await;
        let eye = look(&place).await;
        let handle = tasks.add_task(requeued, ()).await.unwrap();
        let id = handle.id();
        doors.inside.reached(1).await;
        drop(tasks);
        doors.dropped.reached(1).await;
        let task = support::reaches(&eye, id, TaskStatus::Pending).await;
        assert_eq!(task.attempts[0].outcome, AttemptOutcome::HandedBack);
        support::eventually("it has left", || async {
            let instances = eye.instances().await.unwrap();
            instances.iter().all(|instance| !instance.runs).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_running_however_many_adds_the_shutdown_interrupts() {
    for place in everywhere() {
        for round in 0..20 {
            let (tasks, _) = start(&place).await;
            let adders: Vec<_> = (0..8)
                .map(|_| {
                    let tasks = tasks.clone();
                    tokio::spawn(async move {
                        loop {
                            match tasks.add_task(ping, ()).eager(true).await {
                                Ok(_) => {}
                                Err(AddError::ShutDown) => return,
                                Err(error) => panic!("{error}"),
                            }
                        }
                    })
                })
                .collect();
            tokio::time::sleep(Duration::from_millis(5)).await;
            tasks.shutdown(Duration::from_secs(10)).await.unwrap();
            let eye = look(&place).await;
            let counts = eye.counts().await.unwrap();
            assert_eq!((counts.running, counts.interrupted), (0, 0), "round {round}: {counts:?}");
            for adder in adders {
                soon(adder).await.unwrap();
            }
            let counts = eye.counts().await.unwrap();
            assert_eq!((counts.running, counts.interrupted), (0, 0), "round {round}: {counts:?}");
            eye.cancel_all(TaskFilter::all()).await.unwrap();
        }
    }
}

#[test]
fn a_runtime_that_ends_without_a_shutdown_leaves_nothing_running() {
    for place in everywhere() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (tasks, doors, ids) = runtime.block_on(async {
            let (tasks, doors) = start(&place).await;
            let added = tasks.add_all([
                tasks.add_task(once, ()).into_new_task(),
                tasks.add_task(requeued, ()).into_new_task(),
                tasks.add_task(stubborn, ()).into_new_task(),
            ]);
            let ids: Vec<_> = added.await.unwrap().iter().map(TaskHandle::id).collect();
            doors.inside.reached(3).await;
            (tasks, doors, ids)
        });
        // As at the end of a `#[tokio::test]`: no task is asked to stop, and the process goes on.
        drop(runtime);
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let (others, at_others) = start(&place).await;
            let task = record(&others, ids[2]).await;
            assert_eq!(task.status, TaskStatus::Running, "its thread goes on, so nobody else may begin it");
            doors.inside.open();
            at_others.inside.reached(2).await;
            at_others.inside.open();
            let ended = support::ends(&others, ids[0]).await;
            assert_eq!(ended.status, TaskStatus::Interrupted, "it may not run twice");
            for id in &ids[1..] {
                let ended = support::ends(&others, *id).await;
                assert_eq!((ended.status, ended.attempts.len()), (TaskStatus::Success, 2));
            }
            let refused = soon(tasks.add_task(ping, ())).await.unwrap_err();
            assert!(matches!(refused, AddError::ShutDown), "{refused}");
        });
    }
}

#[test]
fn main_returns_although_a_synchronous_task_does_not() {
    let place = Place::sqlite();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let doors = runtime.block_on(async {
        let (tasks, doors) = start(&place).await;
        tasks.add_task(stubborn, ()).await.unwrap();
        doors.inside.reached(1).await;
        tasks.shutdown(Duration::ZERO).await.unwrap();
        doors
    });
    let began = Instant::now();
    drop(runtime);
    assert!(began.elapsed() < Duration::from_secs(1), "the runtime waited for its thread");
    doors.inside.open();
}
