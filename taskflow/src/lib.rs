//! Background tasks for Rust.

extern crate self as taskflow;

mod attributes;
pub(crate) mod model;
pub mod store;
mod task;

pub use attributes::{schedule, task};
pub use model::*;
pub use store::{IntoStore, MemoryStore, Store};
#[cfg(feature = "sqlite")]
pub use store::SqliteStore;
pub use task::{
    BlockingTask, BoxFuture, Call, ContextError, Descriptor, FromContext, IntoNewTask, Location, Needs, Standalone,
    State, Task, TaskArg, TaskConfig, TaskContext, TaskError, TaskFn, TaskOutput, TaskValue,
};

/// What the macros' expansions name; nobody else may.
#[doc(hidden)]
pub mod __private {
    pub use inventory;

    pub use crate::task::{
        ArgumentError, ArgumentWriter, ErrorReport, Missed, Overlap, Payload, Probe, Registration, ScheduleSpec,
        TaskOutcome, Trigger, ViaBoxedError, ViaDisplay, ViaError, ViaNothing, ViaTaskError,
    };
}
