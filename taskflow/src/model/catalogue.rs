//! The catalogue: the tasks of the running programs, as the API shows them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{NewTask, RetryPolicy, time};

/// One task as [`TaskManager::tasks`](crate::TaskManager::tasks) shows it: the options of its attribute, its parameters,
/// and how many live processes run it. Lengths of time are seconds in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskInfo {
    /// The name under which it is registered.
    pub name: String,
    /// Its former names. Tasks stored under them run as this task.
    pub aliases: Vec<String>,
    /// The first line of the function's documentation, up to 300 characters.
    pub summary: Option<String>,
    /// The queue.
    pub queue: String,
    /// The priority: higher values run first.
    pub priority: i16,
    /// Attempts after the first.
    pub retries: u32,
    /// The delay before the second attempt.
    #[serde(with = "time::seconds")]
    pub delay: Duration,
    /// The factor from one delay to the next.
    pub backoff: f64,
    /// The longest delay before jitter; [`Duration::MAX`] is no limit.
    #[serde(with = "time::seconds")]
    pub max_delay: Duration,
    /// The share by which each delay is randomly longer or shorter.
    pub jitter: f64,
    /// The most time that one attempt may take; `None` is no limit.
    #[serde(with = "time::seconds_option")]
    pub timeout: Option<Duration>,
    /// Whether an added task starts at once if the process that adds it has a free slot, before any waiting task.
    pub eager: bool,
    /// Whether it is a synchronous function, which runs on a thread of its own.
    pub is_blocking: bool,
    /// Whether the task runs again after an interrupted run (a crash, a shutdown, a lost lease), even if no attempts are left.
    pub requeue_on_interrupt: bool,
    /// The number of snoozes that do not count as an attempt.
    pub max_snoozes: u32,
    /// After this many lost runs in a row the task fails as poison.
    pub max_lost_runs: u32,
    /// Its arguments, in the order of the function's parameters.
    pub parameters: Vec<ParameterInfo>,
    /// How many live processes run it.
    #[serde(default)]
    pub known_by: usize,
    /// Whether live processes describe it differently, because their programs are of different versions. The rest of this
    /// entry comes from the process that started last.
    #[serde(default)]
    pub differs: bool,
}

impl TaskInfo {
    /// A task to add, with the options of this entry and these arguments: a JSON object keyed by parameter name.
    #[must_use]
    pub fn new_task(&self, args: String) -> NewTask {
        let mut task = NewTask::new(self.name.clone(), Ok(args.into()));
        task.queue = self.queue.clone().into();
        task.priority = self.priority;
        task.eager = self.eager;
        *task.policy.to_mut() = RetryPolicy {
            retries: self.retries,
            delay: self.delay,
            backoff: self.backoff,
            max_delay: self.max_delay,
            jitter: self.jitter,
            timeout: self.timeout,
            requeue_on_interrupt: self.requeue_on_interrupt,
            max_snoozes: self.max_snoozes,
            max_lost_runs: self.max_lost_runs,
        };
        task
    }
}

/// One argument of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParameterInfo {
    /// Its name, which is its key in the payload.
    pub name: String,
    /// Its Rust type as the source code writes it, such as `Vec<String>`. A text of more than 200 characters is cut off.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Whether the payload may lack it: its type is an `Option`, or it has `#[arg(default)]`.
    pub is_optional: bool,
}

impl TaskInfo {
    /// A task with this name, the default options, and no parameters.
    #[must_use]
    pub fn new(name: String) -> Self {
        let policy = super::RetryPolicy::DEFAULT;
        Self {
            name,
            aliases: Vec::new(),
            summary: None,
            queue: "default".to_owned(),
            priority: 0,
            retries: policy.retries,
            delay: policy.delay,
            backoff: policy.backoff,
            max_delay: policy.max_delay,
            jitter: policy.jitter,
            timeout: policy.timeout,
            eager: false,
            is_blocking: false,
            requeue_on_interrupt: policy.requeue_on_interrupt,
            max_snoozes: policy.max_snoozes,
            max_lost_runs: policy.max_lost_runs,
            parameters: Vec::new(),
            known_by: 0,
            differs: false,
        }
    }
}

impl ParameterInfo {
    /// A parameter of that type.
    #[must_use]
    pub fn new(name: String, type_name: String, is_optional: bool) -> Self {
        Self { name, type_name, is_optional }
    }
}
