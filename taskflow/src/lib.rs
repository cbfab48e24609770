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
//!     // A service would write `.store("sqlite://tasks.db")`: then tasks survive `kill -9` and a power loss.
//!     let tasks = TaskManager::builder().store("memory:").start().await?;
//!
//!     // The compiler checks the arguments. When this returns, the task has been stored.
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
//! There is nothing to register: [`#[task]`](macro@task) adds the function to the program's registry.
//!
//! - [`tasks.add_task(send_email, (to, subject))`](TaskManager::add_task) takes the task's name and its arguments;
//!   [`tasks.add(send_email(to, subject))`](TaskManager::add) takes a call of it. Both return an [`AddTask`]. Set its
//!   [priority](AddTask::priority), [queue](AddTask::queue), [tags](AddTask::tag), [times](AddTask::run_in) and
//!   [keys](AddTask::idempotency_key), then await it.
//! - [`tasks.add_all(..)`](TaskManager::add_all) adds many tasks in one round trip, all or none; `.within_sqlite(..)` and
//!   `.within_postgres(..)` add a task in your own transaction.
//! - In an axum handler, [`BackgroundTasks`] adds tasks too, and holds them until the response has been sent. A
//!   [`Hold`](manager::Hold) does this for other frameworks, and for transactions in other databases.
//! - A task adds tasks through a [`TaskManager`] parameter.
//!
//! An add returns a [`TaskHandle`]: it has the task's id, and its [`wait`](TaskHandle::wait) returns the task's result.
//!
//! # Inside a task
//!
//! A task is an `async fn`, or a plain `fn`, which runs on its own thread. Its parameters are its arguments, stored
//! as JSON under their names. The worker provides [`TaskContext`], [`State<T>`](State) and [`TaskManager`]; `#[inject]`
//! marks a parameter of any other [`FromContext`] type. A task returns `()` or a `Result`. The `Ok` value is stored, and
//! an error is retried according to the task's options. A [`TaskError`] decides the next step itself: give up, retry after a
//! given delay, or run later without counting the attempt.
//!
//! # The states of a task
//!
//! `pending → running → success | failed | interrupted | cancelled`.
//!
//! A worker *claims* a task under a lease. It renews the lease until the task ends, however long that takes. When the
//! process dies, its lease expires; its lock file, session or subscription often shows the death earlier. Any other
//! process then recovers the task: a task that [may run again](macro@task) runs again, any other becomes `interrupted`
//! and waits for your decision. Each claim has a *fence*: a process that was suspended and lost its lease can no longer write
//! to the tasks that it lost.
//!
//! [`get`](TaskManager::get), [`list`](TaskManager::list), [`counts`](TaskManager::counts) and
//! [`subscribe`](TaskManager::subscribe) show tasks; [`cancel`](TaskManager::cancel), [`retry`](TaskManager::retry),
//! [`pause_queue`](TaskManager::pause_queue) and similar methods act on them, from any process.
//!
//! # Queues and schedules
//!
//! A [queue](QueueConfig) limits how many of its tasks run, wait or start, in one process or over all processes, and per
//! tenant. [`set_queue`](TaskManager::set_queue) changes these limits without a restart. [`#[schedule]`](macro@schedule)
//! runs a task by the clock, each tick once over all processes; [`schedule`](TaskManager::schedule) does the same at run
//! time.
//!
//! # Hooks
//!
//! A [`Middleware`](observe::Middleware) runs around each attempt and may change its outcome. An [`OnAdd`](observe::OnAdd)
//! tags, routes or refuses tasks before they are stored. An [`Observer`](observe::Observer) receives the events of tasks on a
//! thread of its own, so it never delays a task. See [`observe`].
//!
//! # Where tasks are kept
//!
//! | URL | for | an accepted task survives |
//! |---|---|---|
//! | `memory:` | tests, throw-away work | nothing |
//! | `sqlite://tasks.db` | one machine, any number of processes | `kill -9`, a crash, a power loss |
//! | `sqlite://tasks.db?synchronous=normal` | the same, faster | `kill -9` and a crash of the process |
//! | `postgres://…` | many machines | everything that the server survives |
//! | `redis://…` | many machines | everything that `appendonly` covers |
//!
//! Any other store is a value that implements [`Store`]; the [`store`] module is its specification.
//!
//! # What this crate does not do
//!
//! - **Exactly once.** A task starts at least once, unless it is cancelled or expires before. Apart from retries and snoozes, it
//!   starts again only after an interrupted run (its process died, shut down, lost its lease, or seemed dead to the other
//!   processes), and only if its options allow that; make such a task idempotent, or do not allow it.
//! - **Workflows.** There are no dependencies between tasks; a task can add the next one.
//! - **Other runtimes.** It runs on tokio.
//! - **Secrets.** Arguments are stored in plain text unless you [encrypt](TaskManagerBuilder#method.encrypt) them (feature
//!   `encryption`). Or pass a reference to the secret instead of the secret.
//!
//! # Features
//!
//! | feature | | |
//! |---|---|---|
//! | `sqlite` | default | the store in one SQLite file |
//! | `postgres` | | the store on PostgreSQL 13 and later, for many machines |
//! | `postgres-tls` | | TLS to PostgreSQL by rustls, with the certificates that the machine trusts |
//! | `redis` | | the store on Redis 7 or Valkey, for many machines |
//! | `redis-tls` | | TLS to Redis (`rediss://`) by rustls, with the certificates that the machine trusts |
//! | `axum` | | [`BackgroundTasks`] and [`TaskManager::layer`] |
//! | `testing` | | `testing::TestTasks`: what users test their tasks with |
//! | `api` | | the REST API: `web::Admin` and the module `admin` |
//! | `dashboard` | | the dashboard, with the API |
//! | `encryption` | | `crypt`: arguments, results, errors and log lines can be stored encrypted |
//! | `metrics` | | metrics through the crate `metrics`, and as text for Prometheus |
//! | `otel` | | `observe::OpenTelemetry`: connects the spans of tasks with OpenTelemetry |
//! | `store-contract` | | `testing::contract`: the tests that every store passes |
//! | `cli` | | the `taskflow` command, with the dashboard. Also enable the stores that it should open |

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "unit tests wait in real time"))]

#[cfg(feature = "api")]
pub mod admin;
mod attributes;
#[cfg(feature = "encryption")]
pub mod crypt;
mod engine;
pub mod manager;
pub mod model;
pub mod observe;
mod seam;
pub mod store;
pub mod task;
#[cfg(any(feature = "store-contract", feature = "testing"))]
pub mod testing;
#[cfg(feature = "axum")]
pub mod web;

pub use attributes::{schedule, task};
pub use manager::{AddTask, TaskHandle, TaskManager, TaskManagerBuilder};
pub use model::{
    AddError, Attempt, AttemptOutcome, CancelOutcome, Counts, Error, Health, InstanceInfo, LogLevel, LogLine,
    NewTask, Page, QueueConfig, QueueInfo, ScheduleInfo, ShutdownReport, TaskEvent, TaskFailure, TaskFilter,
    TaskId, TaskRecord, TaskStatus,
};
/// The version of `rusqlite` that [`AddTask::within_sqlite`] uses: its connections must come from this version.
#[cfg(feature = "sqlite")]
pub use rusqlite;
/// The version of `sqlx` that [`AddTask::within_postgres`] uses: its connections must come from this version.
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

/// Compiles the program of the README as a doc test.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../README.md")]
struct Readme;

/// Items that the macros' expansions use. Not public API.
#[doc(hidden)]
pub mod __private {
    pub use inventory;

    pub use crate::task::{
        ArgumentError, ArgumentWriter, ErrorReport, Missed, Overlap, Payload, Probe, Registration,
        ScheduleSpec, Steering, TaskOutcome, Trigger, ViaBoxedError, ViaDisplay, ViaError, ViaNothing,
        ViaTaskError,
    };
}
