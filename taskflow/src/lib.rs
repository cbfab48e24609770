//! Background tasks: annotate a function, add it from a handler, and never lose it.
//!
//! ```standalone_crate
//! use std::time::Duration;
//! use taskflow::TaskManager;
//!
//! /// Retried three times: after 1 s, 2 s and 4 s.
//! #[taskflow::task(retries = 3, delay = "1s", backoff = 2.0)]
//! async fn send_email(to: String, subject: String) -> Result<String, std::io::Error> {
//!     Ok(format!("sent `{subject}` to {to}"))
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // In a service: `.store("sqlite://tasks.db")`, and it survives `kill -9` and a power loss.
//!     let tasks = TaskManager::builder().store("memory:").start().await?;
//!
//!     // The compiler checks the arguments. When this returns the task is stored.
//!     let handle = tasks
//!         .add_task(send_email, ("ada@example.com".to_owned(), "Welcome".to_owned()))
//!         .priority(5)
//!         .idempotency_key("welcome:42")
//!         .await?;
//!
//!     assert_eq!(handle.wait().await?, "sent `Welcome` to ada@example.com");
//!     tasks.shutdown(Duration::from_secs(30)).await?;
//!     Ok(())
//! }
//! ```
//!
//! # Adding a task
//!
//! There is nothing to register: a function under [`#[task]`](macro@task) finds its way into the program's registry by itself.
//!
//! - [`tasks.add_task(send_email, (to, subject))`](TaskManager::add_task) takes the task's name and its arguments;
//!   [`tasks.add(send_email(to, subject))`](TaskManager::add) takes a call of it. Both give an [`AddTask`], on which
//!   [priority](AddTask::priority), [queue](AddTask::queue), [tags](AddTask::tag), [times](AddTask::run_in) and
//!   [keys](AddTask::idempotency_key) are set, and which is awaited.
//! - [`tasks.add_all(..)`](TaskManager::add_all) adds many in one round trip, all or none; `.within_sqlite(..)` and
//!   `.within_postgres(..)` add in a transaction of your own.
//! - In an axum handler, [`BackgroundTasks`] does the same and holds what it adds until the response has been sent. A
//!   [`Hold`] does so for other frameworks, and for transactions in other databases.
//! - A task adds tasks through a [`TaskManager`] parameter.
//!
//! The answer is a [`TaskHandle`]: the id, and [`wait`](TaskHandle::wait) for what the task returned.
//!
//! # Inside a task
//!
//! A task is an `async fn`, or a plain `fn`, which runs on a thread of its own. Its parameters are its arguments, stored
//! as JSON under their names; [`TaskContext`], [`State<T>`](State) and [`TaskManager`] are provided by the worker, and
//! `#[inject]` marks anything else that [is](FromContext). It returns `()`, or a `Result` whose value is kept and whose
//! error is retried as the task's options say. [`TaskError`] steers: give up, try again at a given time, come back later.
//!
//! # The life of a task
//!
//! `pending → running → success | failed | interrupted | cancelled`.
//!
//! A worker *claims* a task under a lease, which it renews for as long as it lives, however long the task takes. When the
//! process dies the lease ends (or its lock file, session or subscription tells earlier), and any other process moves the task on: one
//! that [may run again](macro@task) does, one that never said so is `interrupted` and left to you. Each claim has a
//! *fence*, and a process that comes back from a long sleep can no longer write anything to what it lost.
//!
//! [`get`](TaskManager::get), [`list`](TaskManager::list), [`counts`](TaskManager::counts) and
//! [`subscribe`](TaskManager::subscribe) show what happens; [`cancel`](TaskManager::cancel),
//! [`retry`](TaskManager::retry), [`pause_queue`](TaskManager::pause_queue) and their like act on it, from any process.
//!
//! # Queues and schedules
//!
//! A [queue](QueueConfig) limits how many of its tasks run, wait or start, in one process or over all, also for each of many
//! tenants; [`set_queue`](TaskManager::set_queue) changes that while everything is at work. [`#[schedule]`](macro@schedule) runs a
//! task by the clock, each tick once over all processes, and so does [`schedule`](TaskManager::schedule) at run time.
//!
//! # Where tasks are kept
//!
//! | URL | for | an accepted task survives |
//! |---|---|---|
//! | `memory:` | tests, throw-away work | nothing |
//! | `sqlite://tasks.db` | one machine, any number of processes | `kill -9`, a crash, a power loss |
//! | `sqlite://tasks.db?synchronous=normal` | the same, faster | `kill -9` and a crash of the process |
//! | `postgres://…` | many machines | what the server survives |
//! | `redis://…` | many machines | what `appendonly` keeps |
//!
//! Any other store is a value that implements [`Store`]; the [`store`] module is its specification.
//!
//! # What this crate does not do
//!
//! - **Exactly once.** A task is started at least once. It is started twice only after its process was lost, and only
//!   if it said that it may be; make what it does idempotent, or do not say so.
//! - **Workflows.** There are no dependencies between tasks; a task can add the next one.
//! - **Other runtimes.** It runs on tokio.
//! - **Secrets.** Arguments are stored as they are. Pass where a secret is, not the secret.
//!
//! # Features
//!
//! | feature | | |
//! |---|---|---|
//! | `sqlite` | default | the store that is one SQLite file |
//! | `postgres` | | the store on PostgreSQL 13 and later, for many machines |
//! | `postgres-tls` | | TLS to PostgreSQL by rustls, with the certificates that the machine trusts |
//! | `redis` | | the store on Redis 7 or Valkey, for many machines |
//! | `redis-tls` | | the same for Redis: `rediss://` |
//! | `axum` | | [`BackgroundTasks`] and [`TaskManager::layer`] |
//! | `cli` | | nothing of the library: the `taskflow` command, whose `bench` measures a store |

mod attributes;
mod engine;
pub mod manager;
pub mod model;
pub mod store;
pub mod task;
#[cfg(feature = "axum")]
pub mod web;

pub use attributes::{schedule, task};
pub use manager::{AddTask, TaskHandle, TaskManager, TaskManagerBuilder};
pub use model::{
    AddError, Attempt, AttemptOutcome, CancelOutcome, Counts, Error, Health, InstanceInfo, LogLevel, LogLine,
    NewTask, Page, QueueConfig, QueueInfo, ScheduleInfo, ShutdownReport, TaskEvent, TaskFailure, TaskFilter,
    TaskId, TaskRecord, TaskStatus,
};
/// The version of `rusqlite` whose connections [`AddTask::within_sqlite`] takes.
#[cfg(feature = "sqlite")]
pub use rusqlite;
/// The version of `sqlx` whose connections [`AddTask::within_postgres`] takes.
#[cfg(feature = "postgres")]
pub use sqlx;
#[cfg(feature = "postgres")]
pub use store::PostgresStore;
#[cfg(feature = "redis")]
pub use store::RedisStore;
#[cfg(feature = "sqlite")]
pub use store::SqliteStore;
pub use store::{MemoryStore, Store};
pub use task::{Call, Cron, Every, FromContext, State, Task, TaskContext, TaskError};
#[cfg(feature = "axum")]
pub use web::BackgroundTasks;

/// The program of the README compiles.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../README.md")]
struct Readme;

/// What the macros' expansions name; nobody else may.
#[doc(hidden)]
pub mod __private {
    pub use inventory;

    pub use crate::task::{
        ArgumentError, ArgumentWriter, ErrorReport, Missed, Overlap, Payload, Probe, Registration,
        ScheduleSpec, Steering, TaskOutcome, Trigger, ViaBoxedError, ViaDisplay, ViaError, ViaNothing,
        ViaTaskError,
    };
}
