//! The store in a PostgreSQL database.
//!
//! In reading order: a [`url`], or an application's pool with [`options`], becomes a [`store`]. Its [`executor`]
//! borrows one of its [`connections`] for each call, as a [`session`] of one statement or one transaction. [`schema`]
//! creates the tables, and [`sql_add`] the function with which other languages add tasks.
//!
//! Tasks are added by [`insert`]: most of them through [`insert_bulk`], or through [`insert_planned`] and its
//! [plan](insert_plan) where limits and keys must be looked up. All of these take a task's [`columns`] in [`parts`]
//! and return the same [`answers`]. Tasks can also be added [`within`] a transaction of the caller.
//!
//! A [`claim`] starts tasks. [`asked`] has the parameters of its statements, [`claim_sql`] their common parts, and
//! [`claimed`] reads their rows. A claim from queues with limits over all processes goes through [`limits`];
//! [`contention`] decides what claims do that meet at the same tasks. Searches start where [`search_starts`] says, and
//! [`search_sql`] looks for the tasks that they miss; [`recovery_start`] and [`prune_start`] say where searches for
//! leases and old tasks start. If all runs of a turn succeeded, the claim's statement can end them as well. Most other
//! changes are made in a [`unit_of_work`], in which each task is a [`task_row`]: [`finish`], [`recover`], [`control`].
//! Rows that were [damaged](damage) by other programs are failed. [`concurrency_keys`] block and unblock tasks.
//!
//! [`queue_counts`] keeps the counts of the queues, [`queue`] their settings; [`lease`], [`instance`] and
//! [`schedule`] use their own tables. A [`lease_connection`], one of the [`lease_connections`] of the store, renews
//! the leases of an instance and shows by [`liveness`] that it lives. [`read`], [`queue_stats`] and [`list`] answer
//! questions with [`record`]s. [`documents`] keeps small values beside the tasks. [`hints`] wake other processes, where
//! a [`listener`] receives them. [`sql`], [`value`] and [`error`] translate names, values and errors.
//!
//! **Locks** are taken in one order, to prevent deadlocks:
//!
//! 1. `taskflow_schedule_log`, by a definition or removal of a schedule, then the row of that schedule; a tick takes only
//!    the row;
//! 2. rows of `taskflow_queues`, by [`queue::lock`], all that a transaction will need at once, in the order of their
//!    names: by adds to queues with a `max_size`, by claims from queues with limits over all processes, by a
//!    replacement of a stored configuration, and by every transaction that moves a task with a concurrency key out of the
//!    due or running state;
//! 3. rows of tasks, in the order of their ids. Claims, recoveries and renewals wait for none: they skip locked rows.
//!    Blocked tasks are touched, in any order, only by a transaction that has locked the row of their queue;
//! 4. rows of `taskflow_counts`, which belong to the connection's own shard, in the order of the queues' names.
//!
//! All times are those of the server's clock.

#![allow(clippy::disallowed_methods, reason = "a driver waits for a real server, which has the clock")]

mod answers;
mod asked;
mod claim;
mod claim_sql;
mod claimed;
mod columns;
mod concurrency_keys;
mod connections;
mod contention;
mod control;
mod damage;
mod documents;
mod error;
mod executor;
mod finish;
mod hints;
mod insert;
mod insert_bulk;
mod insert_plan;
mod insert_planned;
mod instance;
mod lease;
mod lease_connection;
mod lease_connections;
mod limits;
mod list;
mod listener;
mod liveness;
mod options;
mod parts;
mod prune_start;
mod queue;
mod queue_counts;
mod queue_stats;
mod read;
mod record;
mod recover;
mod recovery_start;
mod schedule;
mod schema;
mod search_sql;
mod search_starts;
mod session;
mod sql;
mod sql_add;
mod store;
mod task_row;
mod unit_of_work;
mod url;
mod value;
mod within;

pub use options::PostgresOptions;
pub use store::PostgresStore;
