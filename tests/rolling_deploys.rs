//! A program leaves tasks alone that it does not know; another version of the program runs them.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/log.rs"]
mod log;
mod support;

use std::time::Duration;

use log::Log;
use support::{Place, eventually, record, soon};
use taskflow::{NewTask, TaskStatus};

#[taskflow::task]
async fn known() {}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_nobody_here_knows_waits_unharmed_and_is_told_once() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    for place in Place::each() {
        let tasks = place.builder().start().await.unwrap();
        let mut stranger = NewTask::new("from_the_future", Ok("{}".into()));
        stranger.priority = 9;
        let strangers = [stranger, NewTask::new("from_the_future", Ok("{}".into()))];
        let ids: Vec<_> = tasks.add_all(strangers).await.unwrap().iter().map(|task| task.id()).collect();
        // An unknown task of higher priority delays no other.
        for _ in 0..20 {
            soon(soon(tasks.add(known())).await.unwrap().wait()).await.unwrap();
        }
        let told = || async { (log.lines_with("from_the_future") > 0).then_some(()) };
        eventually("the log names it", told).await;
        for id in ids {
            let stranger = record(&tasks, id).await;
            assert_eq!((stranger.status, stranger.attempt), (TaskStatus::Pending, 0));
            assert!(stranger.attempts.is_empty() && stranger.error.is_none());
        }
        assert_eq!(log.lines_with("from_the_future"), 1, "once, not for each task");
        log.take();
        tasks.shutdown(Duration::ZERO).await.unwrap();
    }
}
