//! Background tasks for Rust.

mod attributes;
mod engine;
mod manager;
pub(crate) mod model;
pub mod store;
mod task;
#[cfg(feature = "axum")]
mod web;

pub use attributes::{schedule, task};
pub use manager::{AddTask, TaskHandle, TaskManager, TaskManagerBuilder};
pub use model::*;
pub use store::{IntoStore, MemoryStore, Store};
#[cfg(feature = "sqlite")]
pub use store::{SqliteStore, Synchronous};
pub use task::{
    BlockingTask, BoxFuture, Call, ContextError, Descriptor, FromContext, IntoNewTask, Location, Needs, Standalone,
    State, Task, TaskArg, TaskConfig, TaskContext, TaskError, TaskFn, TaskOutput, TaskValue,
};

#[cfg(feature = "axum")]
pub use web::{BackgroundTasks, BackgroundTasksLayer, BackgroundTasksRejection, BackgroundTasksService};

/// What the macros' expansions name; nobody else may.
#[doc(hidden)]
pub mod __private {
    pub use inventory;

    pub use crate::task::{
        ArgumentError, ArgumentWriter, ErrorReport, Missed, Overlap, Payload, Probe, Registration, ScheduleSpec, Steering,
        TaskOutcome, Trigger, ViaBoxedError, ViaDisplay, ViaError, ViaNothing, ViaTaskError,
    };
}
