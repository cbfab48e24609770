//! How the error of a task is stored, and which errors are retried.

mod support;

use std::error::Error;

use support::{Place, ends};
use taskflow::{Task, TaskError, TaskManager, TaskRecord, task::TaskFn};

#[derive(Debug, thiserror::Error)]
#[error("cannot send")]
struct MailError(#[source] std::io::Error);

impl MailError {
    fn refused() -> Self {
        Self(std::io::Error::other("refused"))
    }

    fn is_transient(&self) -> bool {
        !self.0.to_string().contains("refused")
    }
}

struct Shown;

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("shown only")
    }
}

#[taskflow::task]
async fn chained() -> Result<(), MailError> {
    Err(MailError::refused())
}

#[taskflow::task]
async fn boxed() -> Result<(), Box<dyn Error + Send + Sync>> {
    Err(MailError::refused().into())
}

#[taskflow::task]
fn shown() -> Result<(), Shown> {
    Err(Shown)
}

#[taskflow::task(retries = 5, delay = 0)]
async fn aborted() -> Result<(), TaskError> {
    Err(TaskError::abort("no retry will change that"))
}

#[taskflow::task(retries = 5, delay = 0, retry_if = MailError::is_transient)]
async fn judged(refused: bool) -> Result<(), MailError> {
    Err(if refused { MailError::refused() } else { MailError(std::io::Error::other("busy")) })
}

async fn ended<T: Task, P>(tasks: &TaskManager, task: impl TaskFn<P, Task = T>, args: T::Args) -> TaskRecord {
    let handle = tasks.add_task(task, args).await.expect("it is stored");
    ends(tasks, handle.id()).await
}

#[tokio::test]
async fn the_whole_chain_is_kept_whatever_the_type() {
    let tasks = Place::memory().builder().start().await.unwrap();
    assert_eq!(ended(&tasks, chained, ()).await.error.as_deref(), Some("cannot send: refused"));
    assert_eq!(ended(&tasks, boxed, ()).await.error.as_deref(), Some("cannot send: refused"));
    assert_eq!(ended(&tasks, shown, ()).await.error.as_deref(), Some("shown only"));
}

#[tokio::test]
async fn an_error_that_no_retry_would_change_is_not_retried() {
    let tasks = Place::memory().builder().start().await.unwrap();
    assert_eq!(ended(&tasks, aborted, ()).await.attempt, 1);
    assert_eq!(ended(&tasks, judged, (true,)).await.attempt, 1);
    assert_eq!(ended(&tasks, judged, (false,)).await.attempt, 6);
}
