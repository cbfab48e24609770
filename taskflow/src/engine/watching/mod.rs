//! Watches of single tasks, from any process.
//!
//! One [`reader`] reads a task from the store, however many callers in this process watch it. The [`watches`] share with them
//! what it has read. Events of this process wake the reader at once; otherwise it reads at intervals.

mod reader;
mod watches;

pub(crate) use reader::watch;
pub(crate) use watches::{Seen, Watches};
