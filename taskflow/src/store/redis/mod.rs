//! Redis, version 7 or later, or Valkey, shared by any number of processes.
//!
//! In reading order: [`url`] says where it is and [`link`] connects, by [`tls`] if the URL asks for it; what the contract asks of the [`store`] becomes
//! [`calls`] of a [`script`], which is one transaction. The scripts are the files in `lua/`: `base.lua` says which keys
//! there are and `constants.lua` what a task is; `moves.lua`, `life.lua`, `promote.lua`, `crowds.lua`, `insert.lua`,
//! `claim.lua` (with `limits.lua`, `window.lua` and `asides.lua`), `say.lua` and `finish.lua` hold the steps; each
//! `*_main.lua` is one call. What is done most often has scripts of its own where it is simple: `insert_plain_main.lua`, and those
//! on `lean.lua` (`ends_well.lua`, `claim_plain.lua`). On this side [`insert`], [`claim`], [`finish`] and [`recover`] pack arguments and read
//! [`answer`]s; [`state`] is the packed form both sides know; [`reads`], with [`record`], [`list`], [`numbers`] and
//! [`instance`], answers questions, [`schedule`] deals with ticks, and [`controls`] does what people ask for. [`news`] tells
//! other processes that something changed, [`signs`] that this one lives, [`server`] looks at what the server lets this user do and
//! what it keeps, and [`repair`] puts right what other hands have damaged.

mod answer;
mod apply;
mod calls;
mod claim;
mod controls;
mod damage;
mod error;
mod finish;
mod insert;
mod instance;
mod link;
mod list;
mod news;
mod numbers;
mod reads;
mod record;
mod recover;
mod repair;
mod schedule;
mod script;
mod server;
mod signs;
mod state;
mod store;
mod tls;
mod url;

pub use store::RedisStore;
