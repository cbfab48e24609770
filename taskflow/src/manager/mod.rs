//! [`TaskManager`]: the handle with which a program adds tasks, reads them, and controls them.

mod add;
mod builder;
mod catalogue;
mod checks;
mod controls;
#[cfg(feature = "api")]
mod documents;
mod handle;
mod hold;
mod hooks;
mod lifecycle;
#[cfg(any(feature = "api", feature = "metrics"))]
mod metrics;
#[cfg(feature = "metrics")]
mod metrics_push;
mod provided;
mod queues;
#[cfg(feature = "testing")]
mod reach;
mod reads;
#[cfg(feature = "encryption")]
mod rewrap;
mod schedules;
#[cfg(feature = "encryption")]
mod sealed;
mod starting;
mod statistics;
mod tracing;
mod watch;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod within;

pub use add::{AddFuture, AddTask};
pub use builder::TaskManagerBuilder;
pub use handle::TaskHandle;
pub use hold::{EndHold, Hold};
pub use lifecycle::TaskManager;
#[cfg(feature = "api")]
pub(crate) use metrics::Watching;
pub use schedules::AddSchedule;
pub use watch::Watch;
