//! Tasks added through a hold run when the hold is released, and never if it is cancelled.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "hold/turns.rs"]
mod turns;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use everywhere::everywhere;
use futures_util::FutureExt;
use support::{Gate, Place, ends, reaches, record, soon};
use taskflow::{
    AddError, Error, State, TaskContext, TaskFilter, TaskId, TaskManager, TaskStatus,
    model::{StoreError, StoreErrorKind, TaskSource},
    task::IntoNewTask,
};
use wrapper::{Wrapper, go_on};

#[taskflow::task]
async fn mark(State(ran): State<Gate>) {
    ran.note();
}

/// Runs until its test ends it, also after a request to stop.
#[taskflow::task]
async fn stay(State(Inside(inside)): State<Inside>, context: TaskContext) {
    inside.note();
    context.cancelled().await;
    inside.pass().await;
}

#[derive(Clone, Default)]
struct Inside(Gate);

#[taskflow::task]
async fn square(n: u32) -> Result<u32, String> {
    Ok(n * n)
}

async fn start(place: &Place) -> (TaskManager, Gate) {
    let ran = Gate::default();
    (place.builder().state(ran.clone()).state(Inside::default()).start().await.unwrap(), ran)
}

/// Waits until a task that is not held has run, and returns the status of these tasks then.
async fn after_a_while(tasks: &TaskManager, ids: &[TaskId]) -> Vec<TaskStatus> {
    assert_eq!(soon(tasks.add(square(3)).await.unwrap().wait()).await.unwrap(), 9);
    let mut statuses = Vec::new();
    for id in ids {
        statuses.push(record(tasks, *id).await.status);
    }
    statuses
}

async fn stop(tasks: TaskManager) {
    tasks.shutdown(Duration::from_secs(5)).await.unwrap();
}

fn is_release(call: &str) -> bool {
    ["release", "release_and_turn"].contains(&call)
}

fn unavailable() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "nobody is at home")
}

#[tokio::test(flavor = "multi_thread")]
async fn held_tasks_are_stored_at_once_and_run_when_they_are_released() {
    for place in everywhere() {
        let (tasks, ran) = start(&place).await;
        let hold = tasks.hold();
        let one = hold.add_task(mark, ()).await.unwrap();
        let call = hold.add(square(4)).await.unwrap();
        let batch =
            hold.add_all([tasks.add_task(mark, ()).into_new_task(), hold.add_task(mark, ()).into_new_task()]);
        let batch = batch.await.unwrap();
        let ids = [one.id(), call.id(), batch[0].id(), batch[1].id()];
        assert_eq!(after_a_while(&tasks, &ids).await, [TaskStatus::Pending; 4], "{place:?}");
        assert_eq!(ran.count(), 0);
        assert_eq!(record(&tasks, one.id()).await.source, TaskSource::Manager);

        assert_eq!(soon(hold.release()).await.unwrap(), 4);
        for id in ids {
            assert_eq!(ends(&tasks, id).await.status, TaskStatus::Success);
        }
        assert_eq!((ran.count(), tasks.health().stale_writes), (3, 0), "{place:?}");
        stop(tasks).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_tasks_never_run_and_their_records_have_the_reason() {
    for place in everywhere() {
        let (tasks, ran) = start(&place).await;
        let hold = tasks.hold();
        let ids = [
            hold.add_task(mark, ()).await.unwrap().id(),
            hold.add_task(mark, ()).run_in(Duration::from_millis(1)).await.unwrap().id(),
        ];
        assert_eq!(soon(hold.cancel("rolled back")).await.unwrap(), 2);
        // The cancel is stored now, and a later release changes nothing.
        for id in ids {
            let task = record(&tasks, id).await;
            assert_eq!((task.status, task.error.as_deref()), (TaskStatus::Cancelled, Some("rolled back")));
        }
        assert_eq!(soon(hold.release()).await.unwrap(), 0);
        assert_eq!(after_a_while(&tasks, &ids).await, [TaskStatus::Cancelled; 2], "{place:?}");
        assert_eq!((ran.count(), tasks.health().stale_writes), (0, 0), "{place:?}");
        stop(tasks).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_released_when_its_last_clone_is_dropped() {
    for place in everywhere() {
        let (tasks, ran) = start(&place).await;
        let hold = tasks.hold();
        let other = hold.clone();
        let id = hold.add_task(mark, ()).await.unwrap().id();
        drop(hold);
        assert_eq!(after_a_while(&tasks, &[id]).await, [TaskStatus::Pending], "{place:?}");
        drop(other);
        reaches(&tasks, id, TaskStatus::Success).await;
        assert_eq!(ran.count(), 1);
        stop(tasks).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_takes_effect_without_being_awaited() {
    for place in everywhere() {
        let (tasks, ran) = start(&place).await;
        let (kept, undone) = (tasks.hold(), tasks.hold());
        let runs = kept.add_task(mark, ()).await.unwrap().id();
        let never = undone.add_task(mark, ()).await.unwrap().id();
        kept.release();
        undone.cancel("no");
        drop((kept, undone));
        reaches(&tasks, runs, TaskStatus::Success).await;
        reaches(&tasks, never, TaskStatus::Cancelled).await;
        assert_eq!(ran.count(), 1, "{place:?}");
        stop(tasks).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_releases_an_open_hold_and_a_cancel_after_it_comes_too_late() {
    for place in everywhere() {
        let (tasks, ran) = start(&place).await;
        let hold = tasks.hold();
        let id = hold.add_task(mark, ()).await.unwrap().id();
        stop(tasks).await;
        assert_eq!(ran.count(), 0, "{place:?}");
        assert!(matches!(hold.add_task(mark, ()).await, Err(AddError::ShutDown)));
        let late = soon(hold.cancel("too late")).await;
        assert!(matches!(late, Ok(0) | Err(Error::ShutDown)), "{late:?}");

        // Without the release, the hold would have lasted until the end of its lease of 10 s.
        let next = place.builder().state(ran.clone()).state(Inside::default()).start().await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), reaches(&next, id, TaskStatus::Success)).await.unwrap();
        assert_eq!(ran.count(), 1);
        stop(next).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_eager_is_not_held_and_not_undone() {
    for place in everywhere() {
        let (tasks, ran) = start(&place).await;
        let hold = tasks.hold();
        let eager = hold.add_task(mark, ()).eager(true).await.unwrap();
        reaches(&tasks, eager.id(), TaskStatus::Success).await;
        assert_eq!(soon(hold.cancel("no")).await.unwrap(), 0);
        assert_eq!((ran.count(), record(&tasks, eager.id()).await.status), (1, TaskStatus::Success));
        stop(tasks).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn to_wait_for_a_held_task_releases_it_for_good_and_no_other() {
    for place in everywhere() {
        let (tasks, ran) = start(&place).await;
        let hold = tasks.hold();
        let held = hold.add_task(mark, ()).await.unwrap().id();
        let waited_for = hold.add(square(5)).await.unwrap();
        assert_eq!(soon(waited_for.wait()).await.unwrap(), 25);
        assert_eq!(after_a_while(&tasks, &[held]).await, [TaskStatus::Pending], "{place:?}");
        assert_eq!(soon(hold.cancel("no")).await.unwrap(), 1);
        assert_eq!(record(&tasks, held).await.status, TaskStatus::Cancelled);
        assert_eq!(record(&tasks, waited_for.id()).await.status, TaskStatus::Success);
        assert_eq!((ran.count(), tasks.health().stale_writes), (0, 0), "{place:?}");
        stop(tasks).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_after_the_end_is_not_held() {
    for place in everywhere() {
        let (tasks, _) = start(&place).await;
        for ended_by_a_cancel in [false, true] {
            let hold = tasks.hold();
            let before = hold.add(square(6));
            let end = if ended_by_a_cancel { hold.cancel("no") } else { hold.release() };
            assert_eq!(soon(end).await.unwrap(), 0);
            // The add is built before the hold ends, and awaited afterwards.
            let id = before.await.unwrap().id();
            reaches(&tasks, id, TaskStatus::Success).await;
        }
        stop(tasks).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_runs_nothing_holds_for_those_that_do() {
    for place in [Place::sqlite()].into_iter().chain(everywhere().into_iter().skip(2)) {
        let (running, ran) = start(&place).await;
        // Its hold outlives many leases.
        let adding = place.builder().lease(Duration::from_millis(300)).connect().await.unwrap();
        let hold = adding.hold();
        let id = hold.add_task(mark, ()).await.unwrap().id();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(after_a_while(&running, &[id]).await, [TaskStatus::Pending], "{place:?}");
        assert_eq!(soon(hold.release()).await.unwrap(), 1);
        reaches(&running, id, TaskStatus::Success).await;
        assert_eq!(ran.count(), 1);
        stop(adding).await;
        stop(running).await;
    }
}

/// A manager whose store calls `before` before each call.
async fn wrapped(
    before: impl Fn(&'static str) -> wrapper::Before + Send + Sync + 'static,
) -> (TaskManager, Gate) {
    let ran = Gate::default();
    let store = Wrapper::new(Place::memory().store(), before);
    (
        TaskManager::builder()
            .store(store)
            .state(ran.clone())
            .state(Inside::default())
            .start()
            .await
            .unwrap(),
        ran,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_on_its_way_when_the_hold_is_cancelled_is_cancelled_too() {
    let (asked, written) = (Gate::default(), Gate::default());
    let hook = {
        let (asked, written) = (asked.clone(), written.clone());
        move |call| {
            let (asked, written) = (asked.clone(), written.clone());
            if call != "insert" {
                return go_on();
            }
            Box::pin(async move {
                asked.note();
                written.pass().await;
                Ok(())
            })
        }
    };
    let (tasks, ran) = wrapped(hook).await;
    let hold = tasks.hold();
    let add = tokio::spawn(hold.add_task(mark, ()).into_future());
    asked.reached(1).await;
    assert_eq!(soon(hold.cancel("rolled back")).await.unwrap(), 0);
    written.open();
    let id = soon(add).await.unwrap().unwrap().id();
    let task = reaches(&tasks, id, TaskStatus::Cancelled).await;
    assert_eq!((task.error.as_deref(), ran.count()), (Some("rolled back"), 0));
    stop(tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_hold_is_released_after_the_adds_on_their_way() {
    let (tasks, ran) = start(&Place::memory()).await;
    for count in 1..=20 {
        let hold = tasks.hold();
        // Polling the add once sends it. Nobody waits for its answer.
        let mut add = hold.add_task(mark, ()).into_future();
        let _ = (&mut add).now_or_never();
        drop((add, hold));
        ran.reached(count).await;
    }
    stop(tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_tried_until_the_store_takes_it() {
    let away = Arc::new(AtomicBool::new(true));
    let hook = {
        let away = away.clone();
        move |call: &'static str| {
            let fails = is_release(call) && away.load(Ordering::Acquire);
            let answer = if fails { Err(unavailable()) } else { Ok(()) };
            Box::pin(std::future::ready(answer)) as wrapper::Before
        }
    };
    let (tasks, ran) = wrapped(hook).await;
    let hold = tasks.hold();
    let id = hold.add_task(mark, ()).await.unwrap().id();
    let cancel = tokio::spawn(hold.cancel("rolled back").into_future());
    assert_eq!(after_a_while(&tasks, &[id]).await, [TaskStatus::Pending]);
    assert!(!cancel.is_finished());
    away.store(false, Ordering::Release);
    assert_eq!(soon(cancel).await.unwrap().unwrap(), 1);
    assert_eq!(record(&tasks, id).await.status, TaskStatus::Cancelled);
    assert_eq!(ran.count(), 0);
    stop(tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_the_store_never_takes_is_an_error_after_the_shutdown() {
    let (tasks, _) = wrapped(|call: &'static str| {
        let answer = if is_release(call) { Err(unavailable()) } else { Ok(()) };
        Box::pin(std::future::ready(answer)) as wrapper::Before
    })
    .await;
    let hold = tasks.hold();
    hold.add_task(mark, ()).await.unwrap();
    let cancel = tokio::spawn(hold.cancel("rolled back").into_future());
    stop(tasks).await;
    assert!(matches!(soon(cancel).await.unwrap(), Err(Error::ShutDown)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_task_is_found_and_can_be_cancelled_by_its_id() {
    for place in everywhere() {
        let (tasks, ran) = start(&place).await;
        let hold = tasks.hold();
        let id = hold.add_task(mark, ()).tag("order", 42).await.unwrap().id();
        let found = tasks.list(TaskFilter::new().tag("order", 42)).await.unwrap().items;
        assert_eq!(found.iter().map(|task| task.id).collect::<Vec<_>>(), [id]);
        tasks.cancel(id).await.unwrap();
        assert_eq!(soon(hold.release()).await.unwrap(), 0);
        assert_eq!(after_a_while(&tasks, &[id]).await, [TaskStatus::Cancelled], "{place:?}");
        assert_eq!(ran.count(), 0);
        stop(tasks).await;
    }
}
