//! Watches of single tasks, from any process.
//!
//! However many watch a task in this process, one [`reader`] reads it from the store. The [`watches`] share what it has
//! read. Events of this process wake the reader at once; otherwise it reads at intervals.

mod reader;
mod watches;

pub(crate) use reader::watch;
pub(crate) use watches::{Seen, Watches};
