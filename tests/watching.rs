//! Watches: any process follows a task's status, progress and log lines to its end.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, future::join_all};
use support::{Gate, Place, eventually, soon};
use taskflow::manager::Watch;
use taskflow::model::{StoreError, StoreErrorKind, TaskUpdate};
use taskflow::{
    LogLevel, MemoryStore, State, TaskContext, TaskError, TaskFilter, TaskId, TaskManager, TaskStatus,
};
use wrapper::{Wrapper, go_on};

#[taskflow::task(name = "watch.work", retries = 1, delay = "10ms")]
async fn work(State(gate): State<Gate>, context: TaskContext, fails: bool) -> Result<(), TaskError> {
    context.log(LogLevel::Info, format!("attempt {} begins", context.attempt()));
    context.progress(0.25, "begun");
    gate.pass().await;
    context.progress(1.0, "done");
    context.log(LogLevel::Warn, format!("attempt {} ends", context.attempt()));
    if fails { Err(std::io::Error::other("no"))? } else { Ok(()) }
}

/// The next update.
async fn next(watch: &mut Watch) -> TaskUpdate {
    soon(watch.next()).await.expect("the watch goes on")
}

/// All updates up to one with these words in its JSON.
async fn until(watch: &mut Watch, words: &str) -> Vec<TaskUpdate> {
    let mut found = Vec::new();
    loop {
        let update = next(watch).await;
        let text = serde_json::to_string(&update).unwrap();
        assert_eq!(serde_json::from_str::<TaskUpdate>(&text).unwrap(), update);
        found.push(update);
        if text.contains(words) {
            return found;
        }
    }
}

/// All further updates.
async fn rest(watch: Watch) -> Vec<TaskUpdate> {
    soon(watch.collect::<Vec<_>>()).await
}

fn lines(updates: &[TaskUpdate]) -> Vec<&str> {
    updates
        .iter()
        .filter_map(|update| match update {
            TaskUpdate::Log(line) => Some(&*line.message),
            _ => None,
        })
        .collect()
}

fn status(update: &TaskUpdate) -> Option<TaskStatus> {
    match update {
        TaskUpdate::Status(it) => Some(it.status),
        _ => None,
    }
}

async fn start(place: &Place, gate: &Gate) -> TaskManager {
    place.builder().state(gate.clone()).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_follows_a_task_of_another_one_to_its_last_line() {
    for place in Place::each() {
        let gate = Gate::default();
        let viewer = place.builder().connect().await.unwrap();
        let id = viewer.add_task(work, (true,)).await.unwrap().id();
        let mut watch = viewer.watch(id);
        assert_eq!(status(&next(&mut watch).await), Some(TaskStatus::Pending), "{place:?}");
        let tasks = start(&place, &gate).await;
        // Progress and line come in this order if one read brings both.
        let mut updates = until(&mut watch, "attempt 1 begins").await;
        assert!(updates.iter().any(|it| status(it) == Some(TaskStatus::Running)), "{place:?}: {updates:?}");
        let mut late = tasks.watch(id);
        let first = next(&mut late).await;
        assert_eq!(status(&first), Some(TaskStatus::Running), "{place:?}: the present status comes first");
        gate.open();
        updates.extend(rest(watch).await);
        let all = ["attempt 1 begins", "attempt 1 ends", "attempt 2 begins", "attempt 2 ends"];
        assert_eq!(lines(&updates), all, "{place:?}");
        assert_eq!(status(updates.last().unwrap()), Some(TaskStatus::Failed), "{place:?}: {updates:?}");
        let is_done = |it: &TaskUpdate| matches!(it, TaskUpdate::Progress(it) if it.message == "done");
        assert!(updates.iter().any(is_done), "{place:?}: the last progress is told");
        let late = rest(late).await;
        assert_eq!(lines(&late), all, "{place:?}: a watch that begins late has the lines so far");
        // The task has ended: a new watch gets the same updates and the end.
        let after = rest(viewer.watch(id)).await;
        assert_eq!(lines(&after), all, "{place:?}");
        assert_eq!(status(after.last().unwrap()), Some(TaskStatus::Failed), "{place:?}");
        viewer.shutdown(Duration::ZERO).await.unwrap();
        tasks.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_a_task_without_a_record_ends() {
    for place in Place::each() {
        let tasks = place.builder().connect().await.unwrap();
        assert_eq!(rest(tasks.watch(TaskId::new())).await, [TaskUpdate::Gone], "{place:?}");
        let id = tasks.add_task(work, (false,)).await.unwrap().id();
        let mut watch = tasks.watch(id);
        assert_eq!(status(&next(&mut watch).await), Some(TaskStatus::Pending));
        let mut other = tasks.watch(id);
        assert_eq!(status(&next(&mut other).await), Some(TaskStatus::Pending));
        // A delete of a pending task is refused, so the record goes once it has been cancelled.
        tasks.cancel(id).await.unwrap();
        let last = rest(watch).await;
        assert_eq!(last.iter().filter_map(status).collect::<Vec<_>>(), [TaskStatus::Cancelled], "{place:?}");
        rest(other).await;
        tasks.delete_all(TaskFilter::all()).await.unwrap();
        // The reader that the watches above shared may still be there, with the last status.
        eventually("a new watch finds no record", || async {
            (rest(tasks.watch(id)).await == [TaskUpdate::Gone]).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_its_manager() {
    let tasks = TaskManager::builder().connect().await.unwrap();
    let id = tasks.add_task(work, (false,)).await.unwrap().id();
    let mut watch = tasks.watch(id);
    assert_eq!(status(&next(&mut watch).await), Some(TaskStatus::Pending));
    drop(tasks);
    assert_eq!(rest(watch).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_read_is_told_once_and_the_watch_goes_on() {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = fails.clone();
    let store = Wrapper::new(Arc::new(MemoryStore::new()), move |call| {
        if call == "get" && failing.load(Ordering::SeqCst) {
            let error = StoreError::new(StoreErrorKind::Unavailable, "the cable is out");
            return Box::pin(std::future::ready(Err(error)));
        }
        go_on()
    });
    let gate = Gate::default();
    let tasks = TaskManager::builder().store(store).state(gate.clone()).start().await.unwrap();
    let id = tasks.add_task(work, (false,)).await.unwrap().id();
    let mut watch = tasks.watch(id);
    until(&mut watch, "attempt 1 begins").await;
    fails.store(true, Ordering::SeqCst);
    let told = until(&mut watch, "unavailable").await;
    assert!(
        matches!(told.last(), Some(TaskUpdate::Unavailable { error }) if error.contains("cable")),
        "{told:?}"
    );
    gate.open();
    eventually("it ends meanwhile", || async { (tasks.counts().await.unwrap().success == 1).then_some(()) })
        .await;
    fails.store(false, Ordering::SeqCst);
    let after = rest(watch).await;
    assert!(!after.iter().any(|it| matches!(it, TaskUpdate::Unavailable { .. })), "{after:?}");
    assert_eq!(lines(&after), ["attempt 1 ends"]);
    assert_eq!(status(after.last().unwrap()), Some(TaskStatus::Success));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_watches_of_one_task_share_its_reads_and_none_are_made_when_nobody_watches() {
    let reads: Arc<AtomicUsize> = Arc::default();
    let counted = reads.clone();
    let store = Wrapper::new(Arc::new(MemoryStore::new()), move |call| {
        counted.fetch_add(usize::from(call == "get"), Ordering::SeqCst);
        go_on()
    });
    let gate = Gate::default();
    let tasks = TaskManager::builder().store(store).state(gate.clone()).start().await.unwrap();
    let id = tasks.add_task(work, (false,)).await.unwrap().id();
    gate.reached(1).await;
    let since = Instant::now();
    let mut watches: Vec<_> = (0..500).map(|_| tasks.watch(id)).collect();
    join_all(watches.iter_mut().map(|watch| until(watch, "attempt 1 begins"))).await;
    let made = reads.swap(0, Ordering::SeqCst);
    // One read at the beginning, one for each event, and two a second.
    let most = 6 + usize::try_from(since.elapsed().as_millis() / 400).unwrap();
    assert!(made <= most, "{made} reads for 500 watches, at most {most}");
    drop(watches);
    // The reader notices within a second that nobody watches the task any more.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(reads.load(Ordering::SeqCst) <= 1, "{} reads for nobody", reads.load(Ordering::SeqCst));
    gate.open();
    let ended = rest(tasks.watch(id)).await;
    assert_eq!(status(ended.last().unwrap()), Some(TaskStatus::Success));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_in_this_process_arrives_before_the_next_regular_read() {
    let mut fastest = Duration::MAX;
    // A loaded machine may be late, but not each time.
    for _ in 0..10 {
        let gate = Gate::default();
        let manager = TaskManager::builder().state(gate.clone()).start().await.unwrap();
        let id = manager.add_task(work, (false,)).await.unwrap().id();
        let mut watch = manager.watch(id);
        until(&mut watch, "attempt 1 begins").await;
        let since = Instant::now();
        gate.open();
        rest(watch).await;
        fastest = fastest.min(since.elapsed());
        manager.shutdown(Duration::ZERO).await.unwrap();
    }
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
}
