//! Schedules: when they tick, and the loop that fires each tick once over all processes.

mod ticker;
mod ticks;

pub(crate) use ticker::keep;
pub(crate) use ticks::Ticks;
