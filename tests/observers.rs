//! Which events observers receive, that they never delay tasks, and the observers that write logs and files.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "observers/files.rs"]
mod files;
mod support;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use support::{DEADLINE, Gate, Place, ends, eventually, soon};
use taskflow::model::TaskEventKind;
use taskflow::observe::{EventKind, FileObserver, Interest, LogObserver, MemoryObserver, Observer};
use taskflow::{
    LogLevel, QueueConfig, State, TaskContext, TaskError, TaskEvent, TaskHandle, TaskId, TaskManager,
    TaskStatus,
};
use tempfile::TempDir;

#[taskflow::task]
async fn ping() {}

#[taskflow::task]
async fn other() {}

#[taskflow::task(retries = 1, delay = "1ms", jitter = 0.0)]
async fn fails_once(context: TaskContext) -> Result<(), String> {
    context.log(LogLevel::Warn, "trying\nhard");
    tokio::time::sleep(Duration::from_millis(5)).await;
    if context.attempt() == 1 { Err("no".to_owned()) } else { Ok(()) }
}

#[taskflow::task]
async fn aborts() -> Result<(), TaskError> {
    Err(TaskError::abort("for good"))
}

#[taskflow::task]
async fn snoozes(State(gate): State<Gate>) -> Result<(), TaskError> {
    if gate.count() > 0 {
        return Ok(());
    }
    gate.note();
    Err(TaskError::snooze(Duration::from_millis(1)))
}

#[taskflow::task(requeue_on_interrupt)]
async fn waits(context: TaskContext, State(gate): State<Gate>) {
    context.log(LogLevel::Info, "at the gate");
    gate.pass().await;
}

async fn start(place: &Place, observer: impl Observer) -> (TaskManager, Gate) {
    let gate = Gate::default();
    let builder = place.builder().state(gate.clone()).queue("full", QueueConfig::new().max_size(0));
    (builder.observer(observer).start().await.unwrap(), gate)
}

async fn end<V: taskflow::task::TaskValue>(handle: TaskHandle<V>) -> TaskId {
    let _ = soon(handle.wait()).await;
    handle.id()
}

/// The events of one task once the last one is of this kind.
async fn until(seen: &MemoryObserver, id: TaskId, kind: EventKind) -> Vec<TaskEvent> {
    soon(seen.wait_for(|event| event.id == id && event.kind.kind() == kind)).await;
    seen.events().into_iter().filter(|event| event.id == id).collect()
}

fn kinds(events: &[TaskEvent]) -> Vec<EventKind> {
    events.iter().map(|event| event.kind.kind()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_hears_of_every_step_with_queue_attempt_duration_and_tags() {
    use EventKind::{Added, Log, Retrying, Started, Succeeded};
    for place in Place::each() {
        let seen = MemoryObserver::new();
        let (tasks, _) = start(&place, seen.clone()).await;
        // One is leased by its add, the others are claimed.
        let adds = (0..20).map(|_| tasks.add_task(fails_once, ()).tag("plan", "pro"));
        for handle in tasks.add_all(adds).await.unwrap() {
            let events = until(&seen, end(handle).await, Succeeded).await;
            assert_eq!(kinds(&events), [Added, Started, Log, Retrying, Started, Log, Succeeded]);
            assert!(events.iter().all(|it| *it.name == *"fails_once" && *it.queue == *"default"));
            assert!(events.iter().all(|it| it.tags.len() == 1 && it.tags["plan"] == "pro"));
            assert_eq!(events.iter().map(|it| it.attempt).collect::<Vec<_>>(), [0, 1, 1, 1, 2, 2, 2]);
            for event in &events {
                let is_end = matches!(event.kind.kind(), Retrying | Succeeded);
                assert_eq!(
                    event.duration.is_some_and(|it| it >= Duration::from_millis(5)),
                    is_end,
                    "{event:?}"
                );
            }
            assert!(events.is_sorted_by_key(|it| (it.attempt, it.kind.kind() != Started)), "{events:?}");
            let log = TaskEventKind::Log { level: LogLevel::Warn, message: "trying\nhard".to_owned() };
            assert_eq!((&events[2].kind, events[3].error()), (&log, Some("no")));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_hears_of_refusals_snoozes_failures_cancels_and_hand_backs() {
    use EventKind::{Added, Cancelled, Failed, HandedBack, Log, Rejected, Snoozed, Started, Succeeded};
    for place in Place::each() {
        let seen = MemoryObserver::new();
        let (tasks, gate) = start(&place, seen.clone()).await;
        let full = tasks.add_all([tasks.add_task(ping, ()).queue("full"), tasks.add_task(ping, ())]).await;
        let event = soon(seen.wait_for(|event| event.kind.kind() == Rejected)).await;
        assert_eq!(event.error(), Some(&*full.unwrap_err().to_string()));
        assert_eq!((&*event.name, &*event.queue, event.attempt), ("ping", "full", 0));
        let unknown = tasks.add_task(ping, ()).queue("fool").await.unwrap_err();
        soon(seen.wait_for(|event| event.error() == Some(&*unknown.to_string()))).await;
        assert_eq!(seen.events().len(), 2);

        let id = end(tasks.add_task(aborts, ()).await.unwrap()).await;
        assert_eq!(kinds(&until(&seen, id, Failed).await), [Added, Started, Failed]);
        let id = tasks.add_task(snoozes, ()).await.unwrap().id();
        let events = until(&seen, id, Succeeded).await;
        assert_eq!(kinds(&events), [Added, Started, Snoozed, Started, Succeeded]);
        let later = tasks.add_task(ping, ()).tag("a", "b").run_in(Duration::from_secs(3600)).await.unwrap();
        tasks.cancel(later.id()).await.unwrap();
        let events = until(&seen, later.id(), Cancelled).await;
        assert_eq!(kinds(&events), [Added, Cancelled]);
        assert_eq!((&*events[1].queue, events[1].tags.len(), events[1].duration), ("default", 1, None));
        let id = tasks.add_task(waits, ()).await.unwrap().id();
        gate.reached(2).await;
        tasks.shutdown(Duration::ZERO).await.unwrap();
        // Delivered before the shutdown has ended.
        let events: Vec<_> = seen.events().into_iter().filter(|event| event.id == id).collect();
        assert_eq!(kinds(&events), [Added, Started, Log, HandedBack]);
        assert!(events[3].duration.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_another_process_lost_is_told_with_its_queue_and_tags() {
    let place = Place::sqlite();
    let seen = MemoryObserver::new();
    let gate = Gate::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (there, here) = (place.clone(), gate.clone());
    let id = runtime
        .spawn(async move {
            let lease = Duration::from_millis(50);
            let tasks = there.builder().state(here).lease(lease).only(["waits"]).start().await.unwrap();
            let id = tasks.add_task(waits, ()).tag("plan", "pro").await.unwrap().id();
            std::mem::forget(tasks);
            id
        })
        .await
        .unwrap();
    gate.reached(1).await;
    // Like a crash: nothing of the other process goes on.
    runtime.shutdown_background();
    let (_tasks, gate) = start(&place, seen.clone()).await;
    gate.open();
    let events = until(&seen, id, EventKind::Succeeded).await;
    let lost = events.iter().find(|event| event.kind.kind() == EventKind::Lost).expect("it was lost");
    assert_eq!((&*lost.queue, lost.attempt, &*lost.tags["plan"]), ("default", 1, "pro"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_hears_only_what_it_is_interested_in() {
    for place in Place::each() {
        let all = MemoryObserver::new();
        let [ends, warnings, of_other] = [
            Interest::only([EventKind::Succeeded, EventKind::Failed]),
            Interest::ALL.min_level(LogLevel::Warn).without(EventKind::Failed),
            Interest::ALL.tasks(["other"]),
        ]
        .map(|interest| MemoryObserver::new().interest(interest));
        let tasks = place
            .builder()
            .state(Gate::default())
            .observer(ends.clone())
            .observer(warnings.clone())
            .observer(of_other.clone())
            .observer(all.clone())
            .start()
            .await
            .unwrap();
        end(tasks.add_task(fails_once, ()).await.unwrap()).await;
        end(tasks.add_task(aborts, ()).await.unwrap()).await;
        end(tasks.add_task(other, ()).await.unwrap()).await;
        tasks.shutdown(DEADLINE).await.unwrap();
        use EventKind::{Added, Failed, Log, Retrying, Started, Succeeded};
        assert_eq!(kinds(&ends.events()), [Succeeded, Failed, Succeeded]);
        assert_eq!(kinds(&warnings.events()), [Log, Retrying, Log]);
        assert_eq!(kinds(&of_other.events()), [Added, Started, Succeeded]);
        assert_eq!(all.events().len(), 13);
    }
}

/// An observer that stands still until it may go on.
#[derive(Default)]
struct Slow {
    may_go: Mutex<bool>,
    goes: Condvar,
    heard: Mutex<Vec<TaskId>>,
}

impl Slow {
    fn heard(&self) -> Vec<TaskId> {
        self.heard.lock().unwrap().clone()
    }

    fn go(&self) {
        *self.may_go.lock().unwrap() = true;
        self.goes.notify_all();
    }
}

impl Observer for Slow {
    fn on_event(&self, event: &TaskEvent) {
        let mut may_go = self.may_go.lock().unwrap();
        while !*may_go {
            may_go = self.goes.wait(may_go).unwrap();
        }
        self.heard.lock().unwrap().push(event.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_one_delays_no_task_and_the_oldest_events_are_dropped_and_counted() {
    let slow = Arc::new(Slow::default());
    let (tasks, _) = start(&Place::memory(), slow.clone()).await;
    let handles = tasks.add_all((0..3000).map(|_| tasks.add_task(ping, ()))).await.unwrap();
    eventually("all ran", || async { (tasks.counts().await.unwrap().success == 3000).then_some(()) }).await;
    assert!(slow.heard().is_empty());
    let last = end(tasks.add_task(ping, ()).await.unwrap()).await;
    // Up to 64 are being delivered and 4,096 wait; the others were dropped.
    let all = 3 * (handles.len() + 1);
    let dropped = || tasks.health().dropped_events as usize;
    eventually("they are counted", || async { (dropped() + 4096 + 64 >= all).then_some(()) }).await;
    slow.go();
    tasks.shutdown(DEADLINE).await.unwrap();
    let (heard, dropped) = (slow.heard(), dropped());
    assert!(dropped + 4096 < all, "{dropped}");
    assert_eq!(heard.len(), all - dropped);
    // The latest are kept.
    assert_eq!(heard.iter().filter(|id| **id == last).count(), 3);
}

/// An observer that takes its time.
#[derive(Default)]
struct Unhurried(AtomicUsize);

impl Observer for Unhurried {
    fn on_event(&self, _: &TaskEvent) {
        std::thread::sleep(Duration::from_millis(1));
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_delivers_what_was_queued() {
    for place in Place::each() {
        let unhurried = Arc::new(Unhurried::default());
        let (tasks, _) = start(&place, unhurried.clone()).await;
        tasks.add_all((0..300).map(|_| tasks.add_task(ping, ()))).await.unwrap();
        eventually("all ran", || async { (tasks.counts().await.unwrap().success == 300).then_some(()) })
            .await;
        tasks.shutdown(DEADLINE).await.unwrap();
        assert_eq!(unhurried.0.load(Ordering::SeqCst), 900);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_never_returns_does_not_hold_up_the_shutdown() {
    let slow = Arc::new(Slow::default());
    let place = Place::sqlite();
    let builder = place.builder().only(["ping"]).cancel_grace(Duration::ZERO);
    let tasks = builder.observer(slow.clone()).start().await.unwrap();
    end(tasks.add_task(ping, ()).await.unwrap()).await;
    let began = Instant::now();
    soon(tasks.shutdown(Duration::ZERO)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    // Queued events are not lost while the process lives.
    slow.go();
    eventually("it heard all", || async { (slow.heard().len() == 3).then_some(()) }).await;
}

/// It panics at the first start.
struct Fragile(Arc<AtomicUsize>);

impl Observer for Fragile {
    fn on_event(&self, event: &TaskEvent) {
        self.0.fetch_add(1, Ordering::SeqCst);
        assert!(event.kind.kind() != EventKind::Started, "a start");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_panics_is_unplugged_and_the_others_go_on() {
    for place in Place::each() {
        let (heard, seen) = (Arc::new(AtomicUsize::new(0)), MemoryObserver::new());
        let gate = Gate::default();
        let builder = place.builder().state(gate).observer(Fragile(heard.clone())).observer(seen.clone());
        let tasks = builder.start().await.unwrap();
        for _ in 0..3 {
            end(tasks.add_task(ping, ()).await.unwrap()).await;
        }
        tasks.shutdown(DEADLINE).await.unwrap();
        assert_eq!((heard.load(Ordering::SeqCst), seen.events().len()), (2, 9));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_only_adds_has_observers_too() {
    let place = Place::sqlite();
    let seen = MemoryObserver::new();
    let tasks = place.builder().observer(seen.clone()).connect().await.unwrap();
    tasks.add_task(ping, ()).await.unwrap();
    tasks.shutdown(DEADLINE).await.unwrap();
    assert_eq!(kinds(&seen.events()), [EventKind::Added]);
}

/// A writer whose text can be read.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_has_one_line_of_json_for_each_event() {
    let paper = Paper::default();
    let (tasks, _) = start(&Place::memory(), LogObserver::new(paper.clone())).await;
    let id = end(tasks.add_task(fails_once, ()).tag("a", "b\n").await.unwrap()).await;
    tasks.shutdown(DEADLINE).await.unwrap();
    let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let words: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(words, ["added", "started", "log", "retrying", "started", "log", "succeeded"]);
    for line in &lines {
        assert_eq!(line["id"], id.to_string());
        assert_eq!(line["name"], "fails_once");
        assert_eq!(line["queue"], "default");
        assert_eq!(line["tags"], json!({"a": "b\n"}));
        assert!(line["at"].as_str().unwrap().ends_with('Z'));
    }
    let part = |at: usize, key: &str| lines[at][key].clone();
    assert_eq!(json!([part(2, "message"), part(2, "level")]), json!(["trying\nhard", "warn"]));
    assert_eq!(json!([part(3, "error"), part(3, "delay")]), json!(["no", 0.001]));
    assert_eq!(json!([part(6, "attempt"), part(6, "level")]), json!([2, "info"]));
    assert!(part(6, "duration").as_f64().unwrap() >= 0.005);
    assert!(lines[6].get("error").is_none());
}

/// A writer that refuses every line.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn lines_that_a_log_does_not_take_are_counted() {
    let log = Arc::new(LogObserver::new(Broken));
    let (tasks, _) = start(&Place::memory(), log.clone()).await;
    end(tasks.add_task(ping, ()).await.unwrap()).await;
    tasks.shutdown(DEADLINE).await.unwrap();
    assert_eq!(log.unwritten(), 3, "added, started, succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_and_observers_hear_the_same() {
    use futures_util::StreamExt;
    for place in Place::each() {
        let seen = MemoryObserver::new();
        let (tasks, _) = start(&place, seen.clone()).await;
        let mut stream = tasks.subscribe();
        let id = end(tasks.add_task(fails_once, ()).await.unwrap()).await;
        let expected = until(&seen, id, EventKind::Succeeded).await;
        for event in expected {
            assert_eq!(soon(stream.next()).await.unwrap(), event);
        }
        let json = serde_json::to_string(&seen.events()).unwrap();
        let back: Vec<TaskEvent> = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), json);
        assert_eq!(ends(&tasks, id).await.status, TaskStatus::Success);
    }
}
