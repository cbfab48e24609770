//! The data types of taskflow: ids, statuses, records, filters, events, errors. They depend on no store and no engine. The
//! recovery rules that every store must apply alike are here too, as pure functions.

mod attempt;
mod catalogue;
mod count;
pub(crate) mod error;
mod event;
mod filter;
mod histogram;
mod id;
mod id_text;
mod instance;
pub(crate) mod limits;
mod log;
pub(crate) mod lossless;
mod new_task;
mod policy;
mod queue;
mod record;
pub(crate) mod recovery_policy;
mod schedule;
mod statistics;
mod status;
pub(crate) mod time;
mod update;

pub use attempt::{Attempt, AttemptOutcome};
pub use catalogue::{ParameterInfo, TaskInfo};
pub use count::Count;
pub use error::{AddError, Error, FailureKind, StoreError, StoreErrorKind, TaskFailure};
pub use event::{TaskEvent, TaskEventKind};
pub use filter::{ArgCondition, Cursor, Page, TaskFilter};
pub use histogram::Histogram;
pub use id::{InstanceId, TaskId};
pub use instance::{Health, InstanceInfo, ShutdownReport};
pub use log::{LogLevel, LogLine};
pub use new_task::{NewTask, When};
pub use policy::RetryPolicy;
pub use queue::{LimitsFrom, QueueConfig, QueueInfo, RateLimit};
pub use record::{CancelOutcome, Counts, Progress, TaskRecord, TaskSource};
pub use schedule::{ScheduleInfo, TickOutcome};
pub use statistics::{RunCounts, RunStats, Stats, StatsBy, StatsFilter, StatsPoint, StatsSeries};
pub use status::{TaskPhase, TaskStatus};
pub use update::{StatusUpdate, TaskUpdate};
