//! The catalogue: each process that runs tasks stores what it knows, so that every other process can show it.
//!
//! [`content`] describes the tasks, queues and schedules of this process. [`keep`] stores the description once under the
//! hash of its text, and beside it which process has which hash. [`live`] reads the descriptions of all live processes;
//! [`known`] remembers those that [`live`] has read, since a text under its hash never changes.

mod content;
mod keep;
mod known;
mod live;

pub(crate) use content::{Catalogue, DeclaredQueue, DeclaredSchedule};
pub(crate) use keep::keep;
pub(crate) use known::Known;
pub(crate) use live::live;
