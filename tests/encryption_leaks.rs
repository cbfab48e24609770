//! Sealed values do not leak into the log of the process, other values do not pass for sealed ones, and a key ring that panics
//! breaks nothing else.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/log.rs"]
mod log;
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use log::Log;
use serde_json::Value;
use support::{Place, ends, eventually, record, soon};
use taskflow::crypt::{Encrypt, Key, Keys};
use taskflow::model::FailureKind;
use taskflow::{LogLevel, TaskContext, TaskStatus};

const SECRET: &str = "correct-horse-battery";

/// A forged value that looks sealed, made without a key.
const FORGED: &str = r#"{"$tf":"enc1","k":"deadbeef","n":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","c":"AAAA"}"#;

#[taskflow::task]
async fn talk(context: TaskContext, secret: String) -> Result<(), String> {
    context.log(LogLevel::Warn, format!("I know {secret}"));
    Err(format!("I told {secret}"))
}

#[taskflow::task]
async fn panics(secret: String) {
    panic!("not {secret}");
}

/// It panics with its text when it is dropped.
struct Bomb(String);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped {}", self.0);
    }
}

/// Its timeout ends it, and then its destructor panics.
#[taskflow::task(timeout = "10ms")]
async fn panics_when_dropped(secret: String) {
    let _bomb = Bomb(secret);
    std::future::pending().await
}

/// It panics once it has noticed that it should stop.
#[taskflow::task]
async fn panics_when_stopped(context: TaskContext, secret: String) {
    context.cancelled().await;
    panic!("stopped {secret}");
}

/// It returns its argument as its value, or as its log line and its error.
#[taskflow::task]
async fn pass_on(context: TaskContext, text: String, fails: bool) -> Result<Value, String> {
    context.log(LogLevel::Info, text.clone());
    if fails { Err(text) } else { Ok(serde_json::from_str(&text).unwrap()) }
}

#[taskflow::task]
async fn well() -> Result<String, String> {
    Ok("well".to_owned())
}

/// The log of this program. Each test calls this first, so that no test logs before the log exists.
fn the_log() -> Log {
    static LOG: LazyLock<Log> = LazyLock::new(|| {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        subscriber.with_writer(move || writer.clone()).init();
        log
    });
    LOG.clone()
}

#[tokio::test]
async fn the_log_shows_no_sealed_error_and_no_sealed_line() {
    let log = the_log();
    let encrypt = Encrypt::new(Key::from_parts([1; 4], [1; 32])).args().results().errors().logs();
    let place = Place::sqlite();
    let tasks = place.builder().encrypt(encrypt).cancel_grace(Duration::from_secs(5)).start().await.unwrap();
    let told = tasks.add_task(talk, (SECRET.to_owned(),)).await.unwrap();
    let panicked = tasks.add_task(panics, (SECRET.to_owned(),)).await.unwrap();
    let dropped = tasks.add_task(panics_when_dropped, (SECRET.to_owned(),)).await.unwrap();
    let stopped = tasks.add_task(panics_when_stopped, (SECRET.to_owned(),)).await.unwrap();
    eventually("it runs", || async {
        (record(&tasks, stopped.id()).await.status == TaskStatus::Running).then_some(())
    })
    .await;
    tasks.cancel(stopped.id()).await.unwrap();
    for id in [told.id(), panicked.id(), dropped.id()] {
        assert_eq!(soon(ends(&tasks, id)).await.status, TaskStatus::Failed);
    }
    assert_eq!(soon(ends(&tasks, stopped.id())).await.status, TaskStatus::Cancelled);
    let text = log.text();
    for when in ["while the task was being dropped", "after the task was asked to stop"] {
        assert!(text.contains(&format!("it panicked, and its errors are sealed ({when})")), "{text}");
    }
    assert!(text.contains("the attempt failed error=sealed with key 01010101"), "{text}");
    assert!(!text.contains(SECRET), "{text}");
}

#[tokio::test]
async fn what_a_task_passes_on_does_not_pass_for_sealed() {
    the_log();
    for encrypt in [None, Some(Encrypt::new(Key::from_parts([1; 4], [1; 32])).args().logs())] {
        for place in Place::each() {
            let builder = place.builder();
            let builder =
                encrypt.clone().into_iter().fold(builder, |builder, encrypt| builder.encrypt(encrypt));
            let tasks = builder.start().await.unwrap();
            let passed = tasks.add_task(pass_on, (FORGED.to_owned(), false)).await.unwrap();
            assert_eq!(soon(passed.wait()).await.unwrap(), serde_json::from_str::<Value>(FORGED).unwrap());
            let failed = tasks.add_task(pass_on, (FORGED.to_owned(), true)).await.unwrap();
            let failure = soon(failed.wait()).await.unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Ended, "{failure}");
            let mut record = tasks.get(failed.id()).await.unwrap().unwrap();
            record.hide_sealed();
            assert!(record.error.unwrap().contains("deadbeef"));
            if encrypt.is_none() {
                let mut line = tasks.logs(failed.id()).await.unwrap().unwrap().remove(0);
                line.hide_sealed();
                assert!(line.message.contains("deadbeef"), "{line:?}");
            }
            assert_eq!(tasks.health().missing_keys, Vec::<String>::new());
        }
    }
}

/// It panics as soon as the test says so.
struct Cracks(Key, Arc<AtomicBool>);

impl Keys for Cracks {
    fn current(&self) -> Key {
        assert!(!self.1.load(Ordering::Relaxed), "the vault is sealed");
        self.0.clone()
    }

    fn by_id(&self, id: &str) -> Option<Key> {
        self.0.by_id(id)
    }
}

#[tokio::test]
async fn a_key_ring_that_panics_ends_the_run_and_takes_no_slot_with_it() {
    the_log();
    let cracks = Arc::new(AtomicBool::new(false));
    let encrypt = Encrypt::new(Cracks(Key::from_parts([1; 4], [1; 32]), cracks.clone()));
    let tasks = Place::memory().builder().encrypt(encrypt).max_concurrent_tasks(1).start().await.unwrap();
    tasks.pause_queue("default").await.unwrap();
    let first = tasks.add_task(well, ()).await.unwrap();
    let second = tasks.add_task(well, ()).await.unwrap();
    cracks.store(true, Ordering::Relaxed);
    tasks.resume_queue("default").await.unwrap();
    for task in [first, second] {
        let record = soon(ends(&tasks, task.id())).await;
        assert_eq!(record.status, TaskStatus::Failed);
        let error = record.error.unwrap();
        assert!(error.contains("key ring") && error.contains("the vault is sealed"), "{error}");
    }
    cracks.store(false, Ordering::Relaxed);
    let third = tasks.add_task(well, ()).await.unwrap();
    assert_eq!(soon(third.wait()).await.unwrap(), "well");
}
