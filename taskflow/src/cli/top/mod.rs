//! `taskflow top`: everything live on a terminal, with keys that act.
//!
//! [`state`] holds what is shown. [`update`] and [`keys`] change it after events and keys, without a terminal and without a
//! store. [`draw`] draws it. [`source`] reads the store and acts on it. [`run`] ties them together.

mod draw;
mod keys;
mod run;
mod source;
mod state;
#[cfg(test)]
mod tests;
mod update;

pub(super) use run::{Options, run};
