//! The `taskflow` command, as it is built, on real stores: what it prints for people and for programs, its exit codes, and what it
//! refuses.
//!
//! It is a test of the package `taskflow`, because Cargo builds a command only for the tests of its own package:
//! `cargo test --workspace --test cli`.

#![cfg(all(feature = "sqlite", feature = "postgres", feature = "redis"))]
#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]
#![allow(clippy::disallowed_methods, reason = "the command lives in real time, and so does its test")]

#[path = "cli/acting.rs"]
mod acting;
#[path = "cli/command.rs"]
mod command;
#[path = "cli/keys.rs"]
mod keys;
#[path = "cli/looking.rs"]
mod looking;
#[path = "cli/outside.rs"]
mod outside;
#[path = "cli/page.rs"]
mod page;
#[path = "cli/refusals.rs"]
mod refusals;
#[path = "cli/screen.rs"]
mod screen;
#[path = "support/servers/mod.rs"]
mod servers;
#[path = "cli/serving.rs"]
mod serving;
#[path = "cli/shop.rs"]
mod shop;
#[path = "support/mod.rs"]
mod support;
#[path = "cli/terminal.rs"]
mod terminal;
