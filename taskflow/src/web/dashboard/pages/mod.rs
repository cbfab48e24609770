//! The pages, one a file.

pub(super) mod audit;
pub(super) mod error;
pub(super) mod events;
pub(super) mod failures;
pub(super) mod login;
pub(super) mod operations;
pub(super) mod overview;
mod queue_table;
pub(super) mod queues;
mod rows;
pub(super) mod schedules;
pub(super) mod selection;
pub(super) mod task;
pub(super) mod tasks;
pub(super) mod types;
pub(super) mod workers;
