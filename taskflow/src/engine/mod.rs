//! The engine: it inserts tasks, claims due tasks, runs them, stores their results, keeps their leases, and shuts down in
//! order. A task passes through the modules in this order:
//!
//! [`adder`] → [`dispatcher`] → [`execution`] (or [`blocking`]) → [`dispatcher`] again. The dispatcher stores the result
//! in the same round trip that claims the next tasks. A [`run`] is the value that these modules hand on; the [`worker`]
//! passes it from one to the next. A run holds a permit of the [`slots`], which limit how many tasks run at once.
//! [`prefetch`] decides how many more tasks are claimed meanwhile.
//!
//! Beside them:
//!
//! - [`middleware`] runs the middleware around the body of a task; [`hooks`] holds the code that the user gave to the builder.
//! - [`observers`] passes the [`events`] to the observers, on a separate thread.
//! - [`lease`] renews the leases of runs and held tasks on a separate thread, and shows other processes that this one is alive.
//! - [`recovery`] recovers lost runs and lost holds, and cancels tasks that expired before they could start.
//! - [`reporter`] stores the progress and log lines of running tasks.
//! - [`prune`] deletes finished tasks that are past their retention.
//! - [`queue_watch`] updates the [`queue_limits`] from the store.
//! - [`end_reader`] reads the results that callers wait for.
//! - [`catalogue`] stores which tasks, queues and schedules this process has, and reads those of other processes.
//! - [`watching`] reads single tasks that callers watch.
//! - [`statistics`] writes the counts of this process, and reads the counts of all processes.
//! - [`schedule`] fires the ticks of schedules.
//! - [`unknown_tasks`] warns of tasks and queues that this program does not know.
//! - [`sealing`] seals (encrypts) what a manager with keys stores, and [`opening`] opens it. `key_check` warns of waiting
//!   tasks whose key is missing.
//! - [`shutdown`] stops everything in order.
//! - [`joining`] registers the process with the store, and [`presence`] tracks it from then until it has left.
//! - [`supervision`] restarts a part of the engine that panicked.
//! - [`guarded`] turns panics of a custom store into errors.

pub(crate) mod adder;
pub(crate) mod blocking;
mod body_end;
pub(crate) mod catalogue;
pub(crate) mod completion;
pub(crate) mod core;
pub(crate) mod dispatcher;
pub(crate) mod end_reader;
pub(crate) mod events;
pub(crate) mod execution;
mod guarded;
pub(crate) mod health;
pub(crate) mod holds;
pub(crate) mod hooks;
pub(crate) mod joining;
#[cfg(feature = "encryption")]
pub(crate) mod key_check;
mod late;
pub(crate) mod lease;
pub(crate) mod listener;
#[cfg(any(feature = "api", feature = "metrics"))]
pub(crate) mod metrics;
mod middleware;
pub(crate) mod observers;
pub(crate) mod opening;
pub(crate) mod panics;
mod prefetch;
pub(crate) mod presence;
pub(crate) mod prune;
pub(crate) mod queue_limits;
pub(crate) mod queue_watch;
pub(crate) mod recovery;
pub(crate) mod release;
pub(crate) mod reporter;
pub(crate) mod retry;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schedule;
pub(crate) mod sealing;
pub(crate) mod shutdown;
pub(crate) mod slots;
pub(crate) mod spans;
#[cfg(feature = "testing")]
pub(crate) mod staged;
pub(crate) mod statistics;
pub(crate) mod store_backoff;
pub(crate) mod supervision;
pub(crate) mod tally;
pub(crate) mod unknown_tasks;
pub(crate) mod viewer;
pub(crate) mod waiters;
pub(crate) mod watching;
pub(crate) mod worker;
mod written;
