//! The values that the REST API answers and that the command line prints with `--json`. They are made of the values of the
//! manager and of the [`Console`](super::Console).

pub mod csv;
mod failures;
mod instance;
mod listed;
mod log;
mod operation;
mod overview;
mod queue;
mod schedule;
mod stats;
mod task;
mod task_type;

pub use failures::FailuresView;
pub use instance::InstanceView;
pub use listed::Listed;
pub use log::NumberedLine;
pub use operation::{OperationView, PreviewView};
pub use overview::OverviewView;
pub use queue::{QueueView, QueueWarning};
pub use schedule::ScheduleView;
pub use stats::{RunNumbers, StatsView};
pub use task::{TaskRow, WholeTask};
pub use task_type::TypeView;
