//! The store in this process's memory: for tests and throw-away work.
//!
//! One lock around one state. A task is a row in a map; everything that is asked for by anything but its id has an
//! index, and `index` alone keeps them: a change of a task is *take it out of the indexes, change it, put it back*.
//! So no operation can forget one, and none costs more for tasks that have ended or are not due.

mod claim;
mod control;
mod finish;
mod index;
mod insert;
mod lease;
mod read;
mod schedule;
mod schedule_log;
mod state;
mod store;
mod task;

pub use store::MemoryStore;
