//! A program that does not know a task leaves it alone: another one, newer or older, does.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Place, eventually, record, soon};
use taskflow::{NewTask, TaskStatus};

#[taskflow::task]
async fn known() {}

/// What the log said.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines_with(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap()).lines().filter(|line| line.contains(text)).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

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
        // The more urgent stranger holds up nobody.
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
        log.0.lock().unwrap().clear();
        tasks.shutdown(Duration::ZERO).await.unwrap();
    }
}
