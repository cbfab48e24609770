//! Every add gets a true answer in time, whatever happens to other adds, to its write and to its runtime.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use everywhere::everywhere;
use servers::postgres::PostgresServer;
use support::{Gate, Place, soon};
use taskflow::store::InsertBatch;
use taskflow::{
    AddError, Store, TaskFilter, TaskHandle, TaskId, TaskManager,
    model::{StoreError, StoreErrorKind},
    task::IntoNewTask,
};
use tokio::runtime::{Builder, Runtime};
use wrapper::{Before, Wrapper, go_on};

#[taskflow::task]
async fn note(text: String) {
    drop(text);
}

fn memory() -> Arc<dyn Store> {
    Arc::new(taskflow::MemoryStore::new())
}

fn refused(message: &str) -> Before {
    let error = StoreError::new(StoreErrorKind::Other, message);
    Box::pin(std::future::ready(Err(error)))
}

/// Whether one of the tasks of a batch has this tag.
fn has_tag(batch: &InsertBatch, key: &str) -> bool {
    batch.groups.iter().flat_map(|group| &group.tasks).any(|insert| insert.task.tags.contains_key(key))
}

fn is_refused(answer: &Result<TaskHandle<()>, AddError>) -> bool {
    matches!(answer, Err(AddError::Store(error)) if error.kind() == StoreErrorKind::Other)
}

/// Adds 200 tasks at once; every fiftieth is bad. Returns which failed.
async fn add_some_bad(tasks: &TaskManager, add: impl Fn(usize) -> taskflow::AddTask<()>) -> Vec<usize> {
    let adds: Vec<_> = (0..200).map(|n| tokio::spawn(add(n).into_future())).collect();
    let mut failed = Vec::new();
    for (n, add) in adds.into_iter().enumerate() {
        let answer = soon(add).await.unwrap();
        if answer.is_err() {
            assert!(is_refused(&answer), "{n}: {answer:?}");
            failed.push(n);
        }
    }
    assert!(tasks.health().is_healthy(), "{:?}", tasks.health());
    failed
}

const BAD: [usize; 4] = [0, 50, 100, 150];

/// A disk with room for a small write only.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_nearly_full_disk_only_those_adds_fail_that_are_too_large_for_it() {
    let (gate, first) = (Gate::default(), AtomicBool::new(true));
    let waits = gate.clone();
    let store = Wrapper::of_inserts(memory(), move |batch| {
        if first.swap(false, Ordering::SeqCst) {
            // The other adds gather meanwhile.
            let waits = waits.clone();
            return Box::pin(async move {
                waits.pass().await;
                Ok(())
            });
        }
        let tasks = batch.groups.iter().flat_map(|group| &group.tasks);
        let bytes: usize = tasks.map(|insert| insert.task.args.as_ref().map_or(0, |args| args.len())).sum();
        let full = || StoreError::new(StoreErrorKind::Full, "no room is left");
        Box::pin(std::future::ready(if bytes > 20_000 { Err(full()) } else { Ok(()) }))
    });
    let builder = TaskManager::builder().store(store).add_timeout(Duration::from_secs(2));
    let tasks = builder.connect().await.unwrap();
    let add = |bytes: usize| tokio::spawn(tasks.add_task(note, ("x".repeat(bytes),)).into_future());
    let first = add(1);
    gate.reached(1).await;
    let mut adds: Vec<_> = (0..200).map(|n| (n, add(if n % 50 == 0 { 30_000 } else { 10 }))).collect();
    // The small adds are checked first.
    adds.sort_by_key(|(n, _)| n % 50 == 0);
    gate.open();
    soon(first).await.unwrap().unwrap();
    let began = Instant::now();
    for (n, add) in adds {
        match soon(add).await.unwrap() {
            Err(AddError::Store(error)) if error.kind() == StoreErrorKind::Full => assert_eq!(n % 50, 0),
            Ok(_) => {
                assert_ne!(n % 50, 0);
                assert!(began.elapsed() < Duration::from_secs(1), "it waited for those that are too large");
            }
            answer => panic!("{n}: {answer:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_the_store_refuses_fails_no_add_that_shares_its_write() {
    let gate = Gate::default();
    let waits = gate.clone();
    let store = Wrapper::of_inserts(memory(), move |batch| {
        if has_tag(batch, "first") {
            let gate = waits.clone();
            return Box::pin(async move {
                gate.pass().await;
                Ok(())
            });
        }
        if has_tag(batch, "bad") { refused("no such row") } else { go_on() }
    });
    let tasks = TaskManager::builder().store(store).connect().await.unwrap();
    // While this add is written, the others gather for one write.
    let first = tokio::spawn(tasks.add(note(String::new())).tag("first", 1).into_future());
    gate.reached(1).await;
    let failed = {
        let gate = gate.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            gate.open();
        });
        let tag = |n: usize| if BAD.contains(&n) { "bad" } else { "good" };
        add_some_bad(&tasks, |n| tasks.add(note(n.to_string())).tag(tag(n), n)).await
    };
    soon(first).await.unwrap().unwrap();
    assert_eq!(failed, BAD);
    assert_eq!(tasks.counts().await.unwrap().pending, 197);
    // An `add_all` with a bad task stores nothing.
    let bad = [tasks.add(note(String::new())), tasks.add(note(String::new())).tag("bad", 1)];
    assert!(matches!(tasks.add_all(bad).await, Err(AddError::Store(_))));
    assert_eq!(tasks.counts().await.unwrap().pending, 197);
}

/// A constraint that somebody added to the table: it refuses `priority` 13.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_database_refuses_fails_no_other() {
    let sqlite = Place::sqlite();
    let connection = rusqlite::Connection::open(file_of(&sqlite)).unwrap();
    let trigger = "CREATE TRIGGER unlucky BEFORE INSERT ON taskflow_tasks WHEN NEW.priority = 13
                   BEGIN SELECT raise(ABORT, 'unlucky'); END";
    connection.execute_batch(trigger).unwrap();
    let mut urls = vec![sqlite.url()];
    let server = PostgresServer::start();
    if let Some(server) = &server {
        servers::made(server.url());
        server.query("ALTER TABLE taskflow_tasks ADD CONSTRAINT unlucky CHECK (priority <> 13)");
        urls.push(server.url());
    }
    for url in urls {
        let tasks = TaskManager::builder().store(url).connect().await.unwrap();
        let priority = |n: usize| if BAD.contains(&n) { 13 } else { 0 };
        let failed = add_some_bad(&tasks, |n| tasks.add(note(n.to_string())).priority(priority(n))).await;
        assert_eq!(failed, BAD);
        assert_eq!(tasks.counts().await.unwrap().pending, 196);
    }
}

fn file_of(place: &Place) -> std::path::PathBuf {
    let url = place.url();
    let path = url.strip_prefix("sqlite://").unwrap();
    path.split('?').next().unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_panics_leaves_no_add_without_an_answer() {
    let panics = Arc::new(AtomicBool::new(true));
    let once = panics.clone();
    let store = Wrapper::of_inserts(memory(), move |_| {
        let panic = once.swap(false, Ordering::SeqCst);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(!panic, "a defect of the store");
            Ok(())
        })
    });
    let tasks = TaskManager::builder().store(store).connect().await.unwrap();
    let adds: Vec<_> =
        (0..50).map(|n: usize| tokio::spawn(tasks.add(note(n.to_string())).into_future())).collect();
    let mut stored = 0;
    for add in adds {
        // Nobody knows after a panic whether the adds are stored, so the write is repeated.
        match soon(add).await.unwrap() {
            Ok(_) => stored += 1,
            Err(AddError::Unknown { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(!panics.load(Ordering::SeqCst), "the store has not panicked");
    assert!(tasks.counts().await.unwrap().pending >= stored);
    soon(tasks.add(note(String::new()))).await.unwrap();
}

/// The caller of an add to a store in memory inserts the task itself, with no writer in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_memory_that_panics_fails_one_add_and_keeps_no_slot() {
    let panics = Arc::new(AtomicBool::new(false));
    let once = panics.clone();
    let store = Wrapper::new(memory(), |_| go_on())
        .inserting_now(move |_| assert!(!once.swap(false, Ordering::SeqCst), "a defect of the store"));
    let tasks = TaskManager::builder().store(store).max_concurrent_tasks(1).start().await.unwrap();
    panics.store(true, Ordering::SeqCst);
    let error = soon(tasks.add(note("first".to_owned()))).await.unwrap_err();
    assert!(matches!(&error, AddError::Unknown { .. }) && error.to_string().contains("a defect"), "{error}");
    assert!(!panics.load(Ordering::SeqCst), "the store has not panicked");
    for _ in 0..3 {
        soon(soon(tasks.add(note(String::new()))).await.unwrap().wait()).await.unwrap();
    }
}

/// A store in memory answers each add at once. The add still counts as work, so that its caller yields now and then.
#[tokio::test]
async fn a_loop_of_adds_lets_others_run() {
    let tasks = TaskManager::builder().store(memory()).connect().await.unwrap();
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = turns.clone();
    let other = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..5_000 {
        tasks.add(note(String::new())).await.unwrap();
    }
    assert!(turns.load(Ordering::SeqCst) > 20, "{turns:?}");
    other.abort();
}

/// A write of 2,000 tasks may take two seconds longer than `add_timeout`; a write of one task may not.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_write_is_waited_for_in_proportion_to_its_size() {
    let store = Wrapper::of_inserts(memory(), |_| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            Ok(())
        })
    });
    let builder = TaskManager::builder().store(store).add_timeout(Duration::from_millis(200));
    let tasks = builder.connect().await.unwrap();
    let handles = soon(tasks.add_all((0..2000).map(|n| note(n.to_string())))).await.unwrap();
    assert_eq!(handles.len(), 2000);
    let began = Instant::now();
    let error = soon(tasks.add(note(String::new()))).await.unwrap_err();
    assert!(matches!(error, AddError::Unknown { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
}

/// A large write may take longer than `add_timeout` while the store works on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_add_all_outlasts_add_timeout_on_every_store() {
    let text = "x".repeat(100);
    for place in everywhere() {
        let tasks = place.builder().add_timeout(Duration::from_millis(50)).connect().await.unwrap();
        let handles = soon(tasks.add_all((0..20_000).map(|_| note(text.clone())))).await.unwrap();
        assert_eq!(handles.len(), 20_000);
        assert_eq!(tasks.counts().await.unwrap().pending, 20_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adds_that_wait_are_bounded_in_bytes_and_say_so() {
    let gate = Gate::default();
    let waits = gate.clone();
    let store = Wrapper::of_inserts(memory(), move |_| {
        let gate = waits.clone();
        Box::pin(async move {
            gate.pass().await;
            Ok(())
        })
    });
    let builder = TaskManager::builder().store(store).add_timeout(Duration::from_secs(2));
    let tasks = builder.connect().await.unwrap();
    let mebibyte = note("x".repeat((1 << 20) - 100)).into_new_task();
    let add_one = || {
        let (tasks, mut new) = (tasks.clone(), mebibyte.clone());
        new.id = TaskId::new();
        tokio::spawn(async move { tasks.add_all([new]).await })
    };
    let adds: Vec<_> = (0..100).map(|_| add_one()).collect();
    let (mut crowded, mut unknown) = (0, 0);
    for add in adds {
        match soon(add).await.unwrap() {
            Err(AddError::Store(error)) if error.to_string().contains("no room") => crowded += 1,
            Err(AddError::Store(_)) => {}
            Err(AddError::Unknown { .. }) => unknown += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!((36..=40).contains(&crowded), "{crowded} of 100 found no room");
    assert!(unknown > 0);
    // A later add waits for room, and finds some when the store goes on.
    let fill: Vec<_> = (0..70).map(|_| add_one()).collect();
    gate.open();
    for add in fill {
        soon(add).await.unwrap().unwrap();
    }
    assert_eq!(tasks.counts().await.unwrap().pending, 70 + unknown);
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A place of each kind. The thread of the test starts the servers, because they end with it.
fn places() -> Vec<Place> {
    everywhere()
}

/// Like a `static` manager that several `#[tokio::test]`s share: the runtime of the first test ends.
#[test]
fn a_manager_whose_runtime_has_ended_answers_within_a_second() {
    for place in places() {
        for starts in [false, true] {
            let first = runtime();
            let (tasks, handle) = first.block_on(async {
                let tasks =
                    if starts { place.builder().start().await } else { place.builder().connect().await };
                let tasks = tasks.unwrap();
                let later = tasks.add(note("there".to_owned())).run_in(Duration::from_secs(3600));
                (tasks.clone(), later.await.unwrap())
            });
            drop(first);
            runtime().block_on(async {
                let began = Instant::now();
                for _ in 0..2 {
                    let error = soon(tasks.add(note(String::new()))).await.unwrap_err();
                    assert!(matches!(error, AddError::ShutDown), "{place:?}: {error}");
                }
                let error = soon(tasks.add_all([note(String::new())])).await.unwrap_err();
                assert!(matches!(error, AddError::ShutDown), "{place:?}: {error}");
                assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
                // Other calls are answered or fail with a reason; none waits for ever.
                let began = Instant::now();
                let _ = soon(tasks.get(handle.id())).await;
                let _ = soon(tasks.list(TaskFilter::new())).await;
                let _ = soon(tasks.counts()).await;
                let _ = soon(tasks.queues()).await;
                let _ = soon(tasks.cancel(handle.id())).await;
                soon(handle.wait()).await.unwrap_err();
                assert!(began.elapsed() < Duration::from_secs(8), "{place:?}: {:?}", began.elapsed());
            });
        }
    }
}

/// For example, the ended runtime drove the connection of the store.
#[test]
fn a_call_that_is_never_answered_ends_soon_after_the_runtime_of_its_manager() {
    let store = Wrapper::new(memory(), |call| match call {
        "get" => Box::pin(std::future::pending()),
        _ => go_on(),
    });
    let first = runtime();
    let tasks = first.block_on(TaskManager::builder().store(store).connect()).unwrap();
    runtime().block_on(async {
        let asked = tokio::spawn({
            let tasks = tasks.clone();
            async move { tasks.get(TaskId::new()).await }
        });
        tokio::task::yield_now().await;
        first.shutdown_background();
        let began = Instant::now();
        for error in [soon(asked).await.unwrap(), soon(tasks.get(TaskId::new())).await] {
            let error = error.unwrap_err();
            assert!(error.to_string().contains("has ended"), "{error}");
        }
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    });
}

#[test]
fn an_add_whose_runtime_ends_while_it_is_written_may_be_stored() {
    let gate = Gate::default();
    let waits = gate.clone();
    let store = Wrapper::of_inserts(memory(), move |_| {
        let gate = waits.clone();
        Box::pin(async move {
            gate.pass().await;
            Ok(())
        })
    });
    let first = runtime();
    let tasks = first.block_on(TaskManager::builder().store(store).connect()).unwrap();
    runtime().block_on(async {
        let written = tokio::spawn(tasks.add(note(String::new())).into_future());
        gate.reached(1).await;
        // This add waits behind the first.
        let waiting = tokio::spawn(tasks.add(note(String::new())).into_future());
        while first.metrics().num_alive_tasks() == 0 {
            tokio::task::yield_now().await;
        }
        first.shutdown_background();
        let error = soon(written).await.unwrap().unwrap_err();
        assert!(matches!(error, AddError::Unknown { .. }), "{error}");
        let error = soon(waiting).await.unwrap().unwrap_err();
        assert!(matches!(error, AddError::ShutDown), "{error}");
    });
}

/// A runtime of one thread that nobody drives: it has not ended, but does nothing. A store in memory does not need it.
#[test]
fn add_timeout_is_kept_by_the_caller_while_the_managers_runtime_stands_still() {
    for place in places() {
        if matches!(place, Place::Memory(_)) {
            continue;
        }
        let first = Builder::new_current_thread().enable_all().build().unwrap();
        let connecting = place.builder().add_timeout(Duration::from_millis(300)).connect();
        let tasks = first.block_on(connecting).unwrap();
        runtime().block_on(async {
            let began = Instant::now();
            let error = soon(tasks.add(note(String::new()))).await.unwrap_err();
            assert!(error.to_string().contains("not stored"), "{place:?}: {error}");
            let waited = began.elapsed();
            assert!((Duration::from_millis(300)..Duration::from_secs(3)).contains(&waited), "{waited:?}");
        });
        // The same from a thread without any runtime.
        let error = tasks.add(note(String::new())).blocking().unwrap_err();
        assert!(error.to_string().contains("not stored"), "{place:?}: {error}");
        // The refused adds are not written when the runtime goes on.
        first.block_on(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(tasks.counts().await.unwrap().total(), 0, "{place:?}");
        });
    }
}

#[test]
fn an_add_to_a_store_in_memory_does_not_need_the_managers_runtime() {
    let first = Builder::new_current_thread().enable_all().build().unwrap();
    let tasks = first.block_on(TaskManager::builder().store(memory()).start()).unwrap();
    let handle = tasks.add(note(String::new())).blocking().unwrap();
    first.block_on(async { soon(handle.wait()).await.unwrap() });
}

#[tokio::test]
async fn the_id_of_an_add_that_may_be_stored_is_the_one_it_has_if_it_is() {
    let gate = Gate::default();
    let waits = gate.clone();
    let store = Wrapper::of_inserts(memory(), move |_| {
        let gate = waits.clone();
        Box::pin(async move {
            gate.pass().await;
            Ok(())
        })
    });
    let builder = TaskManager::builder().store(store).add_timeout(Duration::from_millis(100));
    let tasks = builder.connect().await.unwrap();
    let error = tasks.add(note(String::new())).await.unwrap_err();
    let AddError::Unknown { id, .. } = error else { panic!("{error}") };
    gate.open();
    let stored: TaskId =
        support::eventually("it is stored", || async { Some(tasks.get(id).await.unwrap()?.id) }).await;
    assert_eq!(stored, id);
}
