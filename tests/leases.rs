//! A lease outlives whatever a handler does to its process.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::sync::Arc;
use std::time::Duration;

use everywhere::everywhere;
use support::{Gate, Place, ends, eventually, soon};
use taskflow::store::Claim;
use taskflow::{AttemptOutcome, InstanceInfo, State, TaskManager, TaskStatus};

/// Short, but long enough for a busy server.
fn lease_on(place: &Place) -> Duration {
    Duration::from_millis(if matches!(place, Place::Server(_)) { 300 } else { 100 })
}

#[taskflow::task(retries = 3, delay = "1ms")]
async fn block_the_thread(State(runs): State<Gate>, millis: u64) {
    runs.note();
    std::thread::sleep(Duration::from_millis(millis));
}

#[taskflow::task(retries = 3, delay = "1ms")]
fn block_a_pool_thread(State(runs): State<Gate>, millis: u64) {
    runs.note();
    std::thread::sleep(Duration::from_millis(millis));
}

#[taskflow::task]
async fn ping() {}

async fn start(place: &Place, runs: &Gate) -> TaskManager {
    place.builder().state(runs.clone()).lease(lease_on(place)).start().await.unwrap()
}

/// Another process, which would take over lost runs.
fn neighbour(place: Place, runs: Gate) -> (std::thread::JoinHandle<()>, std::sync::mpsc::Sender<()>) {
    let (stop, stopped) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let tasks = start(&place, &runs).await;
            while let Err(std::sync::mpsc::TryRecvError::Empty) = stopped.try_recv() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tasks.shutdown(Duration::from_secs(5)).await.unwrap();
        });
    });
    (thread, stop)
}

async fn blocked_for_ten_leases(place: Place) {
    let runs = Gate::default();
    let tasks = start(&place, &runs).await;
    let (thread, stop) = neighbour(place.clone(), runs.clone());
    let ten_leases = lease_on(&place).as_millis() as u64 * 10;
    let blocking = tasks.add_task(block_a_pool_thread, (ten_leases,)).eager(true).await.unwrap();
    let handle = tasks.add_task(block_the_thread, (ten_leases,)).eager(true).await.unwrap();
    for id in [handle.id(), blocking.id()] {
        let task = ends(&tasks, id).await;
        let outcomes: Vec<_> = task.attempts.iter().map(|attempt| attempt.outcome).collect();
        assert_eq!((task.status, outcomes), (TaskStatus::Success, vec![AttemptOutcome::Success]));
    }
    assert_eq!(runs.count(), 2);
    let health = tasks.health();
    assert_eq!((health.lost_leases, health.stale_writes), (0, 0));
    stop.send(()).unwrap();
    thread.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_blocks_its_thread_for_ten_leases_runs_once() {
    for place in everywhere() {
        blocked_for_ten_leases(place).await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn so_it_does_on_a_runtime_of_one_thread() {
    for place in everywhere() {
        blocked_for_ten_leases(place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn short_tasks_and_short_leases_are_no_lost_leases() {
    for place in everywhere() {
        // Short, but long enough to be renewed in time by a machine and a server that are busy with these tasks.
        let lease = Duration::from_millis(if matches!(place, Place::Server(_)) { 2_000 } else { 150 });
        let tasks = place.builder().state(Gate::default()).lease(lease).start().await.unwrap();
        for _ in 0..10 {
            let handles = tasks.add_all((0..300).map(|_| tasks.add_task(ping, ()))).await.unwrap();
            for handle in handles {
                soon(handle.wait()).await.unwrap();
            }
        }
        let health = tasks.health();
        assert_eq!((health.lost_leases, health.stale_writes, health.store_errors), (0, 0, 0), "{place:?}");
        assert!(health.is_healthy());
        eventually("nothing is left", || async { (tasks.health().claimed == 0).then_some(()) }).await;
    }
}

#[taskflow::task]
async fn wait_at(State(gate): State<Gate>) {
    gate.pass().await;
}

/// While a transaction of another program keeps every process from writing, no lease can be renewed or taken over.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_nobody_can_write_for_four_leases_ends_no_run() {
    let place = Place::sqlite();
    let gate = Gate::default();
    let start = || place.builder().state(gate.clone()).lease(Duration::from_millis(500)).start();
    let (tasks, other) = (start().await.unwrap(), start().await.unwrap());
    let task = tasks.add_task(wait_at, ()).await.unwrap();
    gate.reached(1).await;

    let path = place.url().replace("sqlite://", "").replace("?synchronous=normal", "");
    let connection = taskflow::rusqlite::Connection::open(path).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    connection.execute_batch("ROLLBACK").unwrap();
    // Both can write again, and so could take over runs that they consider lost.
    for manager in [&tasks, &other] {
        soon(soon(manager.add(ping())).await.unwrap().wait()).await.unwrap();
    }
    // The renewals that come after it find nothing wrong either.
    tokio::time::sleep(Duration::from_secs(1)).await;
    gate.open();
    let record = ends(&tasks, task.id()).await;
    assert_eq!((record.status, record.attempts.len()), (TaskStatus::Success, 1), "{:?}", record.attempts);
    assert_eq!((tasks.health().lost_leases, other.health().lost_leases), (0, 0));
}

/// A process that claims the only task of this name and dies at once.
async fn claims_and_dies(place: &Place, name: &str) {
    let store = place.store();
    let instance = InstanceInfo::of_this_process(true);
    store.join(&instance).await.unwrap();
    let names: Arc<[Arc<str>]> = Arc::from([Arc::from(name)]);
    let queues = vec![(Arc::from("default"), 10)];
    let claim = Claim::new(instance.id, Duration::from_millis(100), names, queues, 10);
    assert_eq!(store.claim(claim).await.unwrap().tasks.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_only_connects_hears_of_the_end_of_what_a_dead_one_ran() {
    for place in everywhere() {
        let tasks = place.builder().connect().await.unwrap();
        let handle = tasks.add(ping()).await.unwrap();
        claims_and_dies(&place, "ping").await;
        let failure = soon(handle.wait()).await.unwrap_err();
        assert_eq!(failure.status(), TaskStatus::Interrupted, "{failure}");
        assert!(failure.to_string().contains("worker lost"), "{failure}");
        tasks.shutdown(Duration::ZERO).await.unwrap();
    }
}
