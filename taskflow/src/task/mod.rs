//! The definition of a task: its type, its configuration, the encoding of its arguments and results, the context of a run,
//! schedules, and the registry of all tasks in the program.

mod argument;
mod buffer;
mod call;
mod config;
mod context;
mod describe;
mod descriptor;
mod from_context;
mod output;
mod pending_report;
mod registry;
mod report;
mod schedule;
mod state;
mod states;
mod stop;
mod task_error;
mod task_fn;
mod timing;
mod typed;

pub use crate::model::{BoxFuture, Steering};
pub use argument::{ArgumentError, ArgumentWriter, Payload, TaskArg};
pub(crate) use call::new_task;
pub use call::{Call, IntoNewTask};
pub use config::TaskConfig;
pub use context::TaskContext;
pub(crate) use context::{ContextParts, ReportQueue, RunEnv};
pub(crate) use descriptor::{BlockingBody, Prepare, Run as RunTask, RunError};
pub use descriptor::{Descriptor, Location, Parameter, Registration};
pub use from_context::{ContextError, FromContext};
pub use output::{TaskOutcome, TaskOutput, TaskValue};
pub(crate) use pending_report::UnsentReport;
pub(crate) use registry::{Registered, Registry};
pub use report::{ErrorReport, Probe, ViaBoxedError, ViaDisplay, ViaError, ViaNothing, ViaTaskError};
pub use schedule::{Missed, Overlap, ScheduleSpec, Trigger};
pub use state::State;
pub use states::Needs;
pub(crate) use states::States;
pub(crate) use stop::{Stop, StopReason};
pub use task_error::TaskError;
pub use task_fn::TaskFn;
pub(crate) use timing::Ticks;
pub use timing::{Cron, Every, Timing, Upcoming};
pub use typed::{BlockingTask, Standalone, Task};
