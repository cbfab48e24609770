//! Schedules: when they tick, what a tick adds, and the loops that fire each tick once over all processes.

mod plan;
mod ticker;
mod ticks;
mod watch;

pub(crate) use plan::{Definition, Plan};
pub(crate) use ticks::Ticks;
pub(crate) use watch::watch;
