//! The store that is a PostgreSQL database.
//!
//! In reading order: a [`url`] or a pool becomes a [`store`], whose [`executor`] each borrow one of its [`connections`] for a
//! [`session`] of one statement or one transaction; [`schema`] makes the tables, and [`sql_add`] the function by which other languages add. Tasks come in by [`insert`], most of
//! them [`insert_bulk`], or by [`insert_planned`] and its [`plan`] where limits and keys must be looked at; all of these take a
//! task's [`columns`] in [`parts`] and give the same [`answers`]. Or they come in [`within`] a transaction of the caller's. They go through
//! [`claim`], made of [`claim_sql`] and of what is [`asked`], which answers with what [`claimed`] reads, or through [`limits`] where the queue has some over all processes,
//! and, where they all end well, out again in the same statement; whatever else becomes of rows happens at a [`work`], on which each is a [`row`]:
//! [`finish`], [`recover`], [`control`]. Rows that other hands have [damaged](damage) are failed. Concurrency [`keys`] keep
//! tasks aside. The [`counts`] keeps the numbers of the
//! queues, [`queue`] what is asked of them, [`lease`], [`instance`] and [`schedule`] their tables.
//! A [`lease_connection`], one of the [`keepers`] of the store, renews the leases of an instance and shows by [`liveness`] that it lives. [`read`], [`queue_stats`]
//! and [`list`] answer questions with [`record`]s. [`hints`] wake other processes, where a [`listener`] hears them. [`sql`], [`value`] and [`error`]
//! translate names, values and errors.
//!
//! **Locks** are taken in one order, so that nobody waits for somebody who waits for him:
//!
//! 1. `taskflow_schedule_log`, by a definition or removal of a schedule, then the row of that schedule; a tick takes only
//!    the row;
//! 2. rows of `taskflow_queues`, by [`queue::lock`], all that a transaction will need at once, in the order of their names:
//!    by adds to queues with a `max_size`, by claims from queues with limits over all processes, and by whoever moves a
//!    task with a concurrency key out of what is due or runs;
//! 3. rows of tasks, in the order of their ids. Claims, recoveries and renewals wait for none: they skip what is locked.
//!    Tasks that were blocked are touched only by who has the row of their queue, in any order;
//! 4. rows of `taskflow_counts`, which are the connection's own, in the order of the queues' names.
//!
//! All times are those of the server's clock.

mod answers;
mod asked;
mod claim;
mod claim_sql;
mod claimed;
mod columns;
mod concurrency_keys;
mod connections;
mod control;
mod damage;
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
mod queue;
mod queue_counts;
mod queue_stats;
mod read;
mod record;
mod recover;
mod schedule;
mod schema;
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
