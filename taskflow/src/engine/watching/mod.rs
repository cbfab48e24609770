//! Watches of single tasks, from any process.
//!
//! One [`reader`] reads a task from the store, however many callers in this process watch that task. The [`watches`] hand each
//! state that the reader has read to all these callers. The reader reads at intervals, and soon after an event of this process.

mod reader;
mod watches;

pub(crate) use reader::watch;
pub(crate) use watches::{Seen, Watches};
