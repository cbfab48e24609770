//! The store in this process's memory: for tests and work that may be lost.
//!
//! One lock guards all tables. A task is a row in a map. Every lookup by anything but the task's id has an index, and
//! only the module `index` maintains the indexes. Every change of a field that an index uses *takes the task out of the
//! indexes, changes it, and puts it back*. So no operation can forget an index, and no claim, insert or count becomes slower
//! with the number of tasks that have ended or are not due.

mod changes;
mod claim;
mod control;
mod documents;
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
#[cfg(feature = "testing")]
mod test;

pub use store::MemoryStore;
