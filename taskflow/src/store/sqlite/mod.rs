//! The store that is one SQLite file.
//!
//! In reading order: [`open`] checks that the file is ours to use and [`schema`] brings it up to date; a call of the
//! contract ([`store`]) becomes a job for the one [`writer`] thread, which commits whatever jobs wait as one
//! [`transaction`], or for a [`reader`] thread. What jobs do is in [`insert`], [`claim`] (which makes tasks [`due`], keeps
//! to the shared [`limits`] and merges the [`ready_lists`] of its names), [`finish`], [`lease`], [`recover`], [`control`],
//! [`schedule`] and [`prune`], over the steps of a row's [`row`], what becomes of it by its [`concurrency`] key and its
//! [`expiry`], and the numbers in its queue's [`counts`]; [`read`], [`queues`] and [`list`] answer questions. [`within`]
//! inserts through a connection of the application's. What other hands damage is found by [`damage`] and [`audit`], and
//! seen to by [`repair`]. [`lock`] tells which processes live, [`mount`] refuses a file whose log
//! others cannot see, [`checkpoint`] keeps the
//! write-ahead log short.
//!
//! All times in the file are microseconds since the epoch by the clock of the machine.

mod checkpoint;
mod claim;
mod concurrency_keys;
mod connection;
mod control;
mod damage;
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
