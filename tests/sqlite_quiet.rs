//! The store never takes its own writes for damage: a SQLite store that two processes use in every way finds nothing to repair.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/log.rs"]
mod log;
mod support;

use std::time::{Duration, Instant, SystemTime};

use log::Log;
use support::{Place, soon};
use taskflow::{QueueConfig, TaskFilter, TaskManager};

#[taskflow::task(name = "quiet.work", queue = "busy", retries = 2, delay = "50ms")]
async fn work(number: u32) -> Result<u32, String> {
    tokio::time::sleep(Duration::from_millis(u64::from(number % 7))).await;
    if number.is_multiple_of(5) { Err("not this one".to_owned()) } else { Ok(number) }
}

async fn start(place: &Place) -> TaskManager {
    let config = QueueConfig::new().key_concurrency(2).max_size(200);
    soon(place.builder().queue("busy", config).only(["quiet.work"]).start()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_taskflow_writes_is_never_taken_for_other_hands() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).init();
    let place = Place::sqlite();
    let (first, second) = (start(&place).await, start(&place).await);
    let since = Instant::now();
    let mut number = 0;
    while since.elapsed() < Duration::from_secs(4) {
        number += 1;
        let tasks = if number % 2 == 0 { &first } else { &second };
        let add = tasks.add_task(work, (number,));
        let add = match number % 8 {
            0 => add.concurrency_key("key"),
            1 => add.run_in(Duration::from_millis(200)),
            2 => add.expires_at(SystemTime::now() + Duration::from_millis(30)).concurrency_key("key"),
            3 => add.run_key(format!("run-{}", number % 3)).run_in(Duration::from_millis(100)),
            4 => add.idempotency_key(format!("key-{}", number % 50)),
            5 => add
                .expires_at(SystemTime::now() + Duration::from_millis(20))
                .run_in(Duration::from_millis(10)),
            _ => add,
        };
        let added = add.await;
        match number % 31 {
            0 => drop(tasks.cancel_all(TaskFilter::new().queue("busy").limit(5)).await),
            1 => drop(tasks.retry_all(TaskFilter::all()).await),
            2 => drop(tasks.delete_all(TaskFilter::new().status(taskflow::TaskStatus::Cancelled)).await),
            3 => drop(tasks.pause_queue("busy").await),
            4..=8 => drop(tasks.resume_queue("busy").await),
            9 => drop(
                tasks.set_queue("busy", QueueConfig::new().key_concurrency(1 + number as usize % 3)).await,
            ),
            10 => drop(tasks.reset_queue("busy").await),
            11 => drop(tasks.cancel_by_run_key("run-1").await),
            12 => drop(added.map(|added| async move { tasks.cancel(added.id()).await })),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    soon(first.shutdown(Duration::from_millis(50))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    soon(second.shutdown(Duration::from_secs(2))).await.unwrap();
    let log = log.text();
    assert!(log.contains("taskflow"), "the log is heard");
    for line in log.lines() {
        assert!(!line.contains("another program") && !line.contains("was damaged"), "{line}");
    }
}
