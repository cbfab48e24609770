//! Cancelling, retrying and deleting, one by one and many at once.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::time::Duration;

use everywhere::everywhere;
use support::{Gate, Place, ends, reaches, record, soon};
use taskflow::{
    AttemptOutcome, CancelOutcome, Error, State, TaskContext, TaskFilter, TaskId, TaskManager, TaskStatus,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Counts the bodies that began, were dropped, and finished their clean-up.
#[derive(Clone, Default)]
struct Doors {
    inside: Gate,
    dropped: Gate,
    cleaned: Gate,
}

struct OnDrop(Gate);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.note();
    }
}

#[taskflow::task]
async fn hang(State(doors): State<Doors>) {
    let _guard = OnDrop(doors.dropped);
    doors.inside.pass().await;
}

#[taskflow::task]
fn hang_until_asked(State(doors): State<Doors>, context: TaskContext) {
    doors.inside.note();
    while !context.is_cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
    doors.dropped.pass_blocking();
}

#[taskflow::task]
fn never_ask(State(doors): State<Doors>) {
    doors.inside.pass_blocking();
}

#[taskflow::task]
async fn listen(State(doors): State<Doors>, context: TaskContext) {
    let inside = doors.inside.clone();
    let spawned = tokio::spawn(async move {
        inside.note();
        context.cancelled().await;
        doors.dropped.note();
    });
    let _ = spawned.await;
}

/// Waits for the request to stop, then runs for `millis` more and succeeds.
#[taskflow::task]
async fn clean_up(millis: u64, State(doors): State<Doors>, context: TaskContext) -> Result<u64, String> {
    let _guard = OnDrop(doors.dropped);
    doors.inside.note();
    context.cancelled().await;
    tokio::time::sleep(Duration::from_millis(millis)).await;
    doors.cleaned.note();
    Ok(millis)
}

/// Checks now and then whether it should stop.
#[taskflow::task(retries = 2)]
async fn clean_up_when_asked(State(doors): State<Doors>, context: TaskContext) -> Result<(), String> {
    let _guard = OnDrop(doors.dropped);
    doors.inside.note();
    while !context.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    doors.cleaned.note();
    Err("it was cut off".to_owned())
}

/// Checks once, before anybody wants it to stop, and ends by itself.
#[taskflow::task]
async fn ask_early(State(doors): State<Doors>, context: TaskContext) {
    assert!(!context.is_cancelled());
    doors.inside.pass().await;
}

/// Waits for the request to stop, but needs longer to stop than it gets.
#[taskflow::task(timeout = "100ms")]
async fn time_out(State(doors): State<Doors>, context: TaskContext) {
    let _guard = OnDrop(doors.dropped);
    doors.inside.note();
    context.cancelled().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    doors.cleaned.note();
}

#[taskflow::task(retries = 3, delay = "1h")]
async fn fail() -> Result<(), String> {
    Err("no".to_owned())
}

#[taskflow::task]
async fn ping(n: u32) {
    let _ = n;
}

async fn start_with_grace(place: &Place, grace: Duration) -> (TaskManager, Doors) {
    let doors = Doors::default();
    (place.builder().state(doors.clone()).cancel_grace(grace).start().await.unwrap(), doors)
}

async fn start(place: &Place) -> (TaskManager, Doors) {
    let doors = Doors::default();
    (place.builder().state(doors.clone()).start().await.unwrap(), doors)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_task_is_cancelled_at_once_and_never_runs() {
    for place in everywhere() {
        let (tasks, doors) = start(&place).await;
        tasks.pause_queue("default").await.unwrap();
        let handle = tasks.add_task(hang, ()).await.unwrap();
        assert_eq!(tasks.cancel(handle.id()).await.unwrap(), CancelOutcome::Cancelled);
        tasks.resume_queue("default").await.unwrap();
        let task = record(&tasks, handle.id()).await;
        assert_eq!((task.status, task.attempt), (TaskStatus::Cancelled, 0));
        assert!(task.error.is_some() && task.finished_at.is_some());
        let later = tasks.add_task(ping, (1,)).await.unwrap();
        soon(later.wait()).await.unwrap();
        assert_eq!(doors.inside.count(), 0);
        assert_eq!(tasks.cancel(handle.id()).await.unwrap(), CancelOutcome::AlreadyFinished);
        assert_eq!(tasks.cancel(TaskId::new()).await.unwrap(), CancelOutcome::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_retry_is_cancelled_too() {
    for place in everywhere() {
        let (tasks, _) = start(&place).await;
        let handle = tasks.add_task(fail, ()).await.unwrap();
        support::eventually("it failed once", || async {
            let task = record(&tasks, handle.id()).await;
            (task.attempt == 1 && task.status == TaskStatus::Pending).then_some(())
        })
        .await;
        assert_eq!(tasks.cancel(handle.id()).await.unwrap(), CancelOutcome::Cancelled);
        let task = record(&tasks, handle.id()).await;
        assert_eq!((task.status, task.attempts.len()), (TaskStatus::Cancelled, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_async_task_is_dropped_at_its_next_await() {
    for place in everywhere() {
        // `hang` does not wait for the request to stop, so it gets none of this time to clean up.
        let (tasks, doors) = start_with_grace(&place, Duration::from_secs(60)).await;
        let handle = tasks.add_task(hang, ()).await.unwrap();
        doors.inside.reached(1).await;
        assert_eq!(tasks.cancel(handle.id()).await.unwrap(), CancelOutcome::Requested);
        doors.dropped.reached(1).await;
        let task = ends(&tasks, handle.id()).await;
        assert_eq!(
            (task.status, task.attempts[0].outcome),
            (TaskStatus::Cancelled, AttemptOutcome::Cancelled)
        );
        assert_eq!(soon(handle.wait()).await.unwrap_err().status(), TaskStatus::Cancelled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_async_task_that_listens_cleans_up_and_is_cancelled_whatever_it_returns() {
    for place in everywhere() {
        let (tasks, doors) = start(&place).await;
        let awaiting = tasks.add_task(clean_up, (20,)).await.unwrap();
        let asking = tasks.add_task(clean_up_when_asked, ()).await.unwrap();
        doors.inside.reached(2).await;
        for id in [awaiting.id(), asking.id()] {
            assert_eq!(tasks.cancel(id).await.unwrap(), CancelOutcome::Requested);
            let task = ends(&tasks, id).await;
            let outcomes: Vec<_> = task.attempts.iter().map(|attempt| attempt.outcome).collect();
            assert_eq!((task.status, outcomes), (TaskStatus::Cancelled, vec![AttemptOutcome::Cancelled]));
            assert!(task.result.is_none());
        }
        assert_eq!(doors.cleaned.count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cleans_up_for_longer_than_its_grace_is_dropped() {
    for place in everywhere() {
        let (tasks, doors) = start_with_grace(&place, Duration::from_millis(50)).await;
        let handle = tasks.add_task(clean_up, (60_000,)).await.unwrap();
        doors.inside.reached(1).await;
        tasks.cancel(handle.id()).await.unwrap();
        doors.dropped.reached(1).await;
        assert_eq!(ends(&tasks, handle.id()).await.status, TaskStatus::Cancelled);
        assert_eq!(doors.cleaned.count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grace_one_that_listens_is_dropped_too() {
    let (tasks, doors) = start_with_grace(&Place::memory(), Duration::ZERO).await;
    let handle = tasks.add_task(clean_up, (60_000,)).await.unwrap();
    doors.inside.reached(1).await;
    tasks.cancel(handle.id()).await.unwrap();
    doors.dropped.reached(1).await;
    assert_eq!(ends(&tasks, handle.id()).await.status, TaskStatus::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_listened_and_did_not_notice_comes_to_its_own_end() {
    for place in everywhere() {
        let (tasks, doors) = start(&place).await;
        let handle = tasks.add_task(ask_early, ()).await.unwrap();
        doors.inside.reached(1).await;
        assert_eq!(tasks.cancel(handle.id()).await.unwrap(), CancelOutcome::Requested);
        doors.inside.open();
        assert_eq!(ends(&tasks, handle.id()).await.status, TaskStatus::Success);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_leaves_no_time_to_clean_up() {
    for place in everywhere() {
        let (tasks, doors) = start(&place).await;
        let handle = tasks.add_task(time_out, ()).await.unwrap();
        doors.dropped.reached(1).await;
        let task = ends(&tasks, handle.id()).await;
        assert_eq!((task.status, task.attempts[0].outcome), (TaskStatus::Failed, AttemptOutcome::TimedOut));
        assert_eq!(doors.cleaned.count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_works_from_another_process() {
    for place in everywhere() {
        let (_running, doors) = start(&place).await;
        let elsewhere = place.builder().connect().await.unwrap();
        let handle = elsewhere.add_task(hang, ()).await.unwrap();
        doors.inside.reached(1).await;
        assert_eq!(elsewhere.cancel(handle.id()).await.unwrap(), CancelOutcome::Requested);
        doors.dropped.reached(1).await;
        reaches(&elsewhere, handle.id(), TaskStatus::Cancelled).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_synchronous_task_is_asked_and_its_record_says_so() {
    for place in everywhere() {
        let (tasks, doors) = start(&place).await;
        let handle = tasks.add_task(hang_until_asked, ()).await.unwrap();
        doors.inside.reached(1).await;
        assert_eq!(tasks.cancel(handle.id()).await.unwrap(), CancelOutcome::Requested);
        doors.dropped.reached(1).await;
        let task = record(&tasks, handle.id()).await;
        assert!(task.status == TaskStatus::Running && task.cancel_requested);
        doors.dropped.open();
        assert_eq!(ends(&tasks, handle.id()).await.status, TaskStatus::Cancelled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_task_that_never_asks_comes_to_its_own_end() {
    for place in everywhere() {
        let (tasks, doors) = start(&place).await;
        let handle = tasks.add_task(never_ask, ()).await.unwrap();
        doors.inside.reached(1).await;
        assert_eq!(tasks.cancel(handle.id()).await.unwrap(), CancelOutcome::Requested);
        doors.inside.open();
        assert_eq!(ends(&tasks, handle.id()).await.status, TaskStatus::Success);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_spawned_can_wait_for_its_cancel() {
    let (tasks, doors) = start(&Place::memory()).await;
    let handle = tasks.add_task(listen, ()).await.unwrap();
    doors.inside.reached(1).await;
    tasks.cancel(handle.id()).await.unwrap();
    doors.dropped.reached(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_cancelled_retried_and_deleted_by_a_filter() {
    for place in everywhere() {
        let (tasks, _) = start(&place).await;
        let delayed = (0..250).map(|n| tasks.add_task(ping, (n,)).run_in(HOUR).tag("batch", n % 2));
        let handles = tasks.add_all(delayed).await.unwrap();
        let kept = tasks.add_task(fail, ()).run_in(HOUR).await.unwrap();
        let odd = || TaskFilter::new().name("ping").tag("batch", 1);

        assert_eq!(tasks.cancel_all(odd()).await.unwrap(), 125);
        assert_eq!(tasks.cancel_all(odd()).await.unwrap(), 0);
        let counts = tasks.counts().await.unwrap();
        assert_eq!((counts.cancelled, counts.pending), (125, 126));

        assert_eq!(tasks.retry_all(odd().status(TaskStatus::Cancelled)).await.unwrap(), 125);
        for handle in handles.iter().skip(1).step_by(2) {
            soon(handle.wait()).await.unwrap();
        }
        assert_eq!(tasks.retry_all(odd()).await.unwrap(), 0);
        assert_eq!(tasks.retry_all(TaskFilter::new().status(TaskStatus::Success)).await.unwrap(), 0);

        assert_eq!(tasks.delete_all(odd().status(TaskStatus::Pending)).await.unwrap(), 0);
        assert_eq!(tasks.delete_all(TaskFilter::all()).await.unwrap(), 125);
        assert_eq!(tasks.counts().await.unwrap().total(), 126);
        assert!(tasks.get(handles[1].id()).await.unwrap().is_none());
        assert_eq!(record(&tasks, kept.id()).await.status, TaskStatus::Pending);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_task_is_deleted_by_its_id_once_it_has_ended() {
    for place in everywhere() {
        let (tasks, _) = start(&place).await;
        tasks.pause_queue("default").await.unwrap();
        let [gone, kept] = [1, 2].map(|n| tasks.add_task(ping, (n,)));
        let (gone, kept) = (gone.await.unwrap(), kept.await.unwrap());
        let error = tasks.delete(gone.id()).await.unwrap_err();
        assert!(matches!(error, Error::NotFinished { status: TaskStatus::Pending, .. }), "{error}");
        assert!(error.to_string().contains("cancel it first"), "{error}");
        tasks.resume_queue("default").await.unwrap();
        for handle in [&gone, &kept] {
            soon(handle.wait()).await.unwrap();
        }
        tasks.delete(gone.id()).await.unwrap();
        assert!(tasks.get(gone.id()).await.unwrap().is_none());
        assert!(matches!(tasks.delete(gone.id()).await, Err(Error::NotFound { .. })));
        assert_eq!(record(&tasks, kept.id()).await.status, TaskStatus::Success);
    }
}

#[tokio::test]
async fn a_filter_without_a_condition_acts_on_nothing() {
    let (tasks, _) = start(&Place::memory()).await;
    assert!(matches!(tasks.cancel_all(TaskFilter::new()).await, Err(Error::EmptyFilter)));
    assert!(matches!(tasks.retry_all(TaskFilter::new().limit(3)).await, Err(Error::EmptyFilter)));
    let error = tasks.delete_all(TaskFilter::new()).await.unwrap_err().to_string();
    assert!(error.contains("TaskFilter::all()"), "{error}");
    assert_eq!(tasks.cancel_all(TaskFilter::all()).await.unwrap(), 0);
}
