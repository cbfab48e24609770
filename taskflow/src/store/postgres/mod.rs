//! The store that is a PostgreSQL database.
//!
//! In reading order: a [`url`] or a pool becomes a [`store`], whose calls each borrow one of its [`connections`] for a
//! [`session`] of one statement or one transaction; [`schema`] makes the tables. Tasks come in by [`insert`], or by
//! [`careful`] where limits and keys must be looked at, or [`within`] a transaction of the caller's. They go through
//! [`claim`] and, where they all end well, out again in the same statement; whatever else becomes of rows happens at a
//! [`desk`]: [`finish`], [`recover`], [`control`]. The [`ledger`] keeps the numbers of the queues, [`lease`], [`instance`]
//! and [`schedule`] their tables. [`read`] and [`list`] answer questions with [`record`]s. [`hints`] wake other processes.
//! [`sql`], [`value`] and [`error`] translate names, values and errors.
//!
//! All times are those of the server's clock.

mod careful;
mod claim;
mod claimed;
mod connections;
mod control;
mod desk;
mod error;
mod finish;
mod hints;
mod insert;
mod instance;
mod keys;
mod lease;
mod ledger;
mod limits;
mod list;
mod overview;
mod queue;
mod read;
mod record;
mod recover;
mod schedule;
mod schema;
mod session;
mod sql;
mod store;
mod url;
mod value;
mod within;

pub use store::PostgresStore;
