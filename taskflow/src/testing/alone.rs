//! Runs a single task's body in a test.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a task is named by its function, which is passed by value everywhere"
)]

use std::time::SystemTime;

use serde::de::DeserializeOwned;

use super::ran::Ran;
use super::tasks::{TestTasks, TestTasksBuilder};
use super::{Length, Moment};
use crate::model::{LogLine, NewTask, Progress, TaskRecord};
use crate::task::{Call, IntoNewTask, Standalone, Task, TaskFn};

/// Prepares a run of this task alone, with these arguments: `test(send_email, ("a@b.c".into(), "Hi".into()))`. For a task
/// without provided parameters, `send_email(..).test()` is the same.
///
/// It runs as a worker runs it, in a store of its own: the arguments are encoded, stored and decoded, and so is the result.
pub fn test<P, T: Task>(task: impl TaskFn<P, Task = T>, args: T::Args) -> TestRun {
    let _ = task;
    TestRun::of(crate::task::new_task::<T>(&args))
}

/// `send_email(..).test()`: a run of one body alone.
pub trait TestCall {
    /// Prepares a run of this call alone. See [`test`](fn@self::test).
    fn test(self) -> TestRun;
}

impl<T: Standalone> TestCall for Call<T> {
    fn test(self) -> TestRun {
        TestRun::of(self.into_new_task())
    }
}

/// A run of one body alone. [`run`](Self::run) runs it.
#[derive(Debug)]
#[must_use = "a run does nothing until `run` is awaited"]
pub struct TestRun {
    task: NewTask,
    attempt: u32,
    tasks: TestTasksBuilder,
}

impl TestRun {
    fn of(task: NewTask) -> Self {
        let tasks = TestTasks::new().only([task.name.clone().into_owned()]);
        Self { task, attempt: 1, tasks }
    }

    /// The number of the attempt. Default: 1.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt.max(1);
        self
    }

    /// Gives the task a value for its `State<T>`.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.tasks = self.tasks.state(value);
        self
    }

    /// Gives the task a tag.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.task.tags.insert(key.into(), value.into());
        self
    }

    /// The timeout of the attempt, and so its deadline.
    pub fn timeout(mut self, length: impl Length) -> Self {
        self.task.policy.to_mut().timeout = Some(length.length());
        self
    }

    /// The instant of the run. Default: the start of this second.
    pub fn at(mut self, moment: impl Moment) -> Self {
        self.tasks = self.tasks.starts_at(moment);
        self
    }

    /// Sets any option of the manager.
    pub fn configure(
        mut self,
        configure: impl Fn(crate::TaskManagerBuilder) -> crate::TaskManagerBuilder + Send + Sync + 'static,
    ) -> Self {
        self.tasks = self.tasks.configure(configure);
        self
    }

    /// Runs the body.
    ///
    /// # Panics
    /// If a manager with this configuration cannot start (for example, a state or a queue is missing), if the task cannot be
    /// added, or if the body does not end within 10 s.
    pub async fn run(self) -> Alone {
        let t = self.tasks.start().await;
        let began_at = t.now();
        let id = match t.manager().add_all([self.task]).await {
            Ok(handles) => handles[0].id(),
            Err(error) => panic!("the task cannot be added: {error}"),
        };
        t.set_attempt(id, self.attempt);
        let ran = t.run(id).await;
        let logs = t.logs(id).await;
        let added = t.records().into_iter().filter(|record| record.id != id).collect();
        Alone { ran, logs, added, began_at }
    }
}

/// What a body did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Alone {
    /// The task after the run.
    pub ran: Ran,
    /// The log lines of the task.
    pub logs: Vec<LogLine>,
    /// The tasks that it added, in the order of their adds.
    pub added: Vec<TaskRecord>,
    /// The instant at which it began.
    pub began_at: SystemTime,
}

impl Alone {
    /// Whether the body succeeded.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.ran.is_success()
    }

    /// The error of the attempt.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.ran.error()
    }

    /// The last progress that the body reported.
    #[must_use]
    pub fn progress(&self) -> Option<&Progress> {
        self.ran.record().progress.as_ref()
    }

    /// The value that the body returned, as it is read back from the store.
    ///
    /// # Panics
    /// If it did not succeed, or returned something else.
    #[must_use]
    #[track_caller]
    pub fn result<T: DeserializeOwned>(&self) -> T {
        self.ran.result()
    }
}
