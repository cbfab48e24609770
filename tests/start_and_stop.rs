//! A manager leaves nothing behind, whenever it is dropped: no thread, no connection, no instance.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use everywhere::everywhere;
use support::{Place, eventually, soon};
use taskflow::store::{LivenessStream, StoreCall, StoreFuture, StoreLayer};
use taskflow::{
    Error, Store, TaskManager, TaskManagerBuilder,
    model::{InstanceId, StoreError, StoreErrorKind},
};
use tokio::sync::Mutex;
use wrapper::{Before, Wrapper, go_on};

#[taskflow::task]
async fn ping() {}

/// These tests count the threads of the process, so they run one at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Threads that renew leases.
fn lease_threads() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.trim() == "taskflow-lease").count()
}

/// A store of the place that yields a few times in each call, and shows whether it has been dropped.
fn yielding(place: &Place) -> (Wrapper, Weak<()>) {
    observed(place, |_| {
        Box::pin(async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            Ok(())
        })
    })
}

fn observed(
    place: &Place,
    hook: impl Fn(&'static str) -> Before + Send + Sync + 'static,
) -> (Wrapper, Weak<()>) {
    let held = Arc::new(());
    let is_held = Arc::downgrade(&held);
    let store = Wrapper::new(place.store(), move |call| {
        let _ = &held;
        hook(call)
    });
    (store, is_held)
}

/// Connects to the place once, which fails if it has no store.
async fn make(place: &Place) {
    place.builder().connect().await.unwrap().shutdown(Duration::ZERO).await.unwrap();
}

/// Waits until nothing is left of the managers of `place`.
async fn nothing_is_left(place: &Place, is_held: &Weak<()>, what: &str) {
    let store = place.store();
    eventually(&format!("no instance is left of {what}"), || async {
        store.instances().await.unwrap().is_empty().then_some(())
    })
    .await;
    eventually(&format!("no thread is left of {what}"), || async { (lease_threads() == 0).then_some(()) })
        .await;
    eventually(&format!("nothing holds the store of {what}"), || async {
        is_held.upgrade().is_none().then_some(())
    })
    .await;
}

/// Polls a future until it has been pending `times` times. Returns its output if it ends before.
async fn polled<F: Future + ?Sized>(future: &mut Pin<Box<F>>, times: usize) -> Option<F::Output> {
    let mut left = times;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => {
            left -= 1;
            if left == 0 { Poll::Ready(None) } else { Poll::Pending }
        }
    })
    .await
}

type Starting = Pin<Box<dyn Future<Output = Result<TaskManager, Error>> + Send>>;

async fn dropped_at_every_await(begin: impl Fn(TaskManagerBuilder) -> Starting) {
    let _alone = ALONE.lock().await;
    for place in everywhere() {
        make(&place).await;
        for times in 1.. {
            let (store, is_held) = yielding(&place);
            let mut starting = begin(TaskManager::builder().store(store));
            let started = soon(polled(&mut starting, times)).await;
            let is_started = started.is_some();
            drop(starting);
            if let Some(manager) = started {
                manager.unwrap().shutdown(Duration::ZERO).await.unwrap();
            }
            nothing_is_left(&place, &is_held, &format!("{place:?} after {times} polls")).await;
            if is_started {
                assert!(times > 3, "there are more awaits than {times}");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_dropped_at_any_await_leaves_nothing() {
    dropped_at_every_await(|builder| Box::pin(builder.start())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_that_is_dropped_at_any_await_leaves_nothing() {
    dropped_at_every_await(|builder| Box::pin(builder.connect())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_dropped_while_the_store_takes_its_time_leaves_when_it_has_joined() {
    let _alone = ALONE.lock().await;
    for place in everywhere() {
        make(&place).await;
        let gate = support::Gate::default();
        let at_gate = gate.clone();
        let (store, is_held) = observed(&place, move |call| {
            let gate = at_gate.clone();
            Box::pin(async move {
                if call == "join" {
                    gate.pass().await;
                }
                Ok(())
            })
        });
        let mut starting = Box::pin(TaskManager::builder().store(store).start());
        tokio::select! {
            _ = &mut starting => panic!("it answered before its `join` was let through"),
            () = gate.reached(1) => {}
        }
        drop(starting);
        gate.open();
        nothing_is_left(&place, &is_held, "a join that was under way").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_after_the_join_leaves_the_store() {
    let _alone = ALONE.lock().await;
    for place in everywhere() {
        for starts in [true, false] {
            let (store, is_held) = observed(&place, |call| match call {
                "queue_states" => {
                    let refused = StoreError::new(StoreErrorKind::Denied, "not for you");
                    Box::pin(std::future::ready(Err(refused)))
                }
                _ => go_on(),
            });
            let builder = TaskManager::builder().store(store);
            let error = match starts {
                true => builder.start().await.unwrap_err(),
                false => builder.connect().await.unwrap_err(),
            };
            assert!(error.to_string().contains("not for you"), "{error}");
            // The process leaves the store before the error is returned.
            assert!(place.store().instances().await.unwrap().is_empty());
            nothing_is_left(&place, &is_held, "an error").await;
        }
    }
}

/// A store that refuses every join, and notes whether a process wants to show that it lives.
#[derive(Clone, Debug)]
struct Refusing {
    inner: Arc<dyn Store>,
    shows: Arc<AtomicUsize>,
}

impl StoreLayer for Refusing {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn around<'a, T: Send + 'a>(
        &'a self,
        call: StoreCall,
        inner: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        match call.name {
            "join" => {
                Box::pin(std::future::ready(Err(StoreError::new(StoreErrorKind::Denied, "not for you"))))
            }
            _ => inner(),
        }
    }

    fn show_life(&self, instance: InstanceId) -> LivenessStream {
        self.shows.fetch_add(1, Ordering::SeqCst);
        self.inner.show_life(instance)
    }
}

/// A sign of life would stay in the store: a process leaves only a store that it may have joined.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_the_store_refuses_never_shows_that_it_lives() {
    let _alone = ALONE.lock().await;
    let store = Refusing { inner: Place::memory().store(), shows: Arc::default() };
    for _ in 0..200 {
        let error = TaskManager::builder().store(store.clone()).start().await.unwrap_err();
        assert!(error.to_string().contains("not for you"), "{error}");
    }
    assert_eq!(store.shows.load(Ordering::SeqCst), 0);
}

/// A manager that gives cancelled tasks no grace.
async fn manager(place: &Place, starts: bool) -> (TaskManager, Weak<()>) {
    let (store, is_held) = yielding(place);
    let builder = TaskManager::builder().store(store).cancel_grace(Duration::ZERO);
    let manager = if starts { builder.start().await } else { builder.connect().await };
    (manager.unwrap(), is_held)
}

#[test]
fn a_manager_that_is_dropped_without_a_shutdown_leaves_nothing_wherever_that_is() {
    let eye = tokio::runtime::Runtime::new().unwrap();
    let _alone = eye.block_on(ALONE.lock());
    let many = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let one = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for place in everywhere() {
        for starts in [true, false] {
            // With a runtime that nobody drives this takes longer, and is the same on all stores. Memory is enough.
            let undriven = matches!(place, Place::Memory(_)).then(one);
            for runtime in [many()].into_iter().chain(undriven) {
                // Dropped outside its runtime, which nobody drives if it has only one thread.
                let (tasks, is_held) = runtime.block_on(manager(&place, starts));
                drop(tasks);
                eye.block_on(async {
                    let store = place.store();
                    eventually("no instance is left of one dropped outside", || async {
                        store.instances().await.unwrap().is_empty().then_some(())
                    })
                    .await;
                    eventually("its thread is gone", || async { (lease_threads() == 0).then_some(()) }).await;
                });
                drop(runtime);
                eye.block_on(nothing_is_left(&place, &is_held, "one dropped outside"));
            }
            for runtime in [many(), one()] {
                // Dropped by the end of its runtime: a task of the runtime owns it.
                let is_held = runtime.block_on(async {
                    let (tasks, is_held) = manager(&place, starts).await;
                    tokio::spawn(async move {
                        std::future::pending::<()>().await;
                        drop(tasks);
                    });
                    tokio::task::yield_now().await;
                    is_held
                });
                drop(runtime);
                eye.block_on(nothing_is_left(&place, &is_held, "one dropped with its runtime"));
            }
            for runtime in [many(), one()] {
                // Dropped after its runtime.
                let (tasks, is_held) = runtime.block_on(manager(&place, starts));
                drop(runtime);
                drop(tasks);
                eye.block_on(nothing_is_left(&place, &is_held, "one dropped after its runtime"));
            }
        }
    }
}

#[tokio::test]
async fn a_store_is_opened_by_the_start_and_not_by_naming_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tasks.db");
    let builder = TaskManager::builder().store(format!("sqlite://{}", path.display()));
    assert!(!path.exists());
    let tasks = builder.start().await.unwrap();
    assert!(path.exists());
    tasks.shutdown(Duration::ZERO).await.unwrap();
}
