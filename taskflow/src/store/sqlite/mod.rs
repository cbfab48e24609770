//! The store in one SQLite file.
//!
//! In reading order: [`open`] checks that the file is usable, [`schema`] brings it up to date, and [`opening`] starts the
//! threads. [`store`] turns each call of the contract into a job for the one [`writer`] thread, or into a question for a
//! [`reader`] thread. The writer commits all waiting jobs as one [`transaction`]. The jobs are in [`insert`], [`claim`],
//! [`finish`], [`lease`], [`recover`], [`control`], [`schedule`] and [`prune`]. A claim takes expired tasks out of the due
//! ones ([`expiry`]), makes tasks [`due`], respects the shared [`limits`], and merges the [`ready_lists`] of the names that
//! it knows. Jobs change rows with the functions in [`task_row`], which keep [`concurrency_keys`], [`unique_keys`],
//! [`expiring`] and [`queue_counts`] up to date. [`read`], [`queues`] and [`list`] answer questions. [`documents`] keeps
//! small values of other parts of taskflow, such as statistics. [`within`] inserts through a connection of the application.
//! [`damage`] and [`integrity`] find rows and counts that another program has damaged, and [`repair`] repairs them. [`lock`]
//! shows which processes are alive, [`mount`] refuses a file whose write-ahead log other processes cannot see, and
//! [`checkpoint`] keeps the write-ahead log short.
//!
//! All times in the file are microseconds since the epoch, by the clock of the machine.

#![allow(
    clippy::disallowed_methods,
    reason = "a driver waits for a real disk, and the file shares the clock of the machine"
)]

mod checkpoint;
mod claim;
mod concurrency_keys;
mod connection;
mod control;
mod damage;
mod documents;
mod due;
mod error;
mod expiring;
mod expiry;
mod finish;
mod identity;
mod insert;
mod instance;
mod integrity;
mod lease;
mod limits;
mod list;
mod lock;
mod mount;
mod open;
mod opening;
mod prune;
mod queue_counts;
mod queues;
mod read;
mod readable;
mod reader;
mod ready_lists;
mod recover;
mod repair;
mod row;
mod schedule;
mod schema;
mod statements;
mod store;
mod synchronous;
mod task_row;
#[cfg(test)]
mod tests;
mod transaction;
mod unique_keys;
mod url;
mod within;
mod writer;

use super::row_state;
pub use store::SqliteStore;
pub use synchronous::Synchronous;
