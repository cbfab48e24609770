//! The store on Redis, version 7 or later, or Valkey, shared by any number of processes.
//!
//! In reading order: [`url`] parses the location and [`connection`] connects, over [`tls`] if the URL asks for
//! it. The [`executor`] turns each call of the [`store`] into a [`script`], which is one transaction.
//!
//! The scripts are the files in `lua/`. `prelude.lua` lists the keys, `constants.lua` the format of a task.
//! `task_rows.lua`, `transitions.lua`, `promote.lua`, `concurrency_groups.lua`, `insert.lua`, `claim.lua` (with
//! `limits.lua`, `window.lua` and `blocked.lua`), `report.lua` and `finish.lua` hold the steps; each `*_main.lua` is
//! one call. The most frequent calls have scripts of their own for simple cases: `insert_plain_main.lua`, and those
//! on `prelude_fast.lua` (`finish_success_fast.lua`, `claim_plain.lua`).
//!
//! On this side, [`insert`], [`claim`], [`finish`], [`apply`] and [`recover`] pack arguments and read [`answer`]s;
//! [`packed_row`] is the packed form of a task that both sides know. [`reads`], with [`record`], [`list`],
//! [`queue_stats`] and [`instance`], answers questions, [`schedule`] handles ticks, [`documents`] keeps small values
//! beside the tasks, and [`controls`] carries out operator calls. [`notifications`] tells other processes that something
//! changed, and [`liveness`] that this one lives. [`server`] checks that the server keeps what it accepts, and
//! [`repair`] fixes data [damaged](damage) by other programs.

#![allow(clippy::disallowed_methods, reason = "a driver waits for a real server, which has the clock")]

mod answer;
mod apply;
mod claim;
mod connection;
mod controls;
mod damage;
mod documents;
mod error;
mod executor;
mod finish;
mod insert;
mod instance;
mod list;
mod liveness;
mod notifications;
mod packed_row;
mod queue_stats;
mod reads;
mod record;
mod recover;
mod repair;
mod schedule;
mod script;
mod server;
mod store;
mod tls;
mod url;

pub use store::RedisStore;
