//! Redis, version 7 or later, or Valkey, shared by any number of processes.
//!
//! In reading order: [`url`] says where it is and [`connection`] connects, by [`tls`] if the URL asks for it; what the contract asks of the [`store`] becomes
//! [`executor`] of a [`script`], which is one transaction. The scripts are the files in `lua/`: `prelude.lua` says which keys
//! there are and `constants.lua` what a task is; `task_rows.lua`, `transitions.lua`, `promote.lua`, `concurrency_groups.lua`, `insert.lua`,
//! `claim.lua` (with `limits.lua`, `window.lua` and `blocked.lua`), `report.lua` and `finish.lua` hold the steps; each
//! `*_main.lua` is one call. What is done most often has scripts of its own where it is simple: `insert_plain_main.lua`, and those
//! on `prelude_fast.lua` (`finish_success_fast.lua`, `claim_plain.lua`). On this side [`insert`], [`claim`], [`finish`] and [`recover`] pack arguments and read
//! [`answer`]s; [`state`] is the packed form both sides know; [`reads`], with [`record`], [`list`], [`queue_stats`] and
//! [`instance`], answers questions, [`schedule`] deals with ticks, and [`controls`] does what people ask for. [`notifications`] tells
//! other processes that something changed, [`liveness`] that this one lives, [`server`] looks at what the server lets this user do and
//! what it keeps, and [`repair`] puts right what other hands have damaged.

mod answer;
mod apply;
mod claim;
mod connection;
mod controls;
mod damage;
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
