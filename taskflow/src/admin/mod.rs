//! What the dashboard, the REST API and the command line share: actors and their permissions, the audit log, the words of
//! filters, and acts on many tasks.

mod actor;
mod adding;
mod args;
pub(crate) mod attention;
mod audit;
mod audit_log;
mod check;
mod console;
mod error;
pub(crate) mod failures;
pub mod grammar;
mod opening;
mod operations;
mod sessions;
pub(crate) mod tag_keys;
pub(crate) mod throttle;
mod ticks;
pub mod views;
pub mod words;

pub use actor::{Actor, Permission, Role};
pub use args::Args;
pub use attention::{Attention, Matter, Situation};
pub use audit::{AuditEntry, AuditFilter, AuditOutcome, Face};
pub use check::{Difference, Inventory, ScheduleEntry, check};
pub use console::{By, Console};
pub use error::AdminError;
pub use failures::{FailureGroup, Failures};
pub use opening::Opened;
pub use operations::{Operation, OperationState, Preview, Running, Selection, Verb};
pub(crate) use sessions::{Session, Sessions};
pub use ticks::next_ticks;
