//! Schedules: the task that a tick adds, and the loop that fires each tick once over all processes.
//!
//! A [`plan`] describes a schedule. The [`ticker`] keeps the [`agenda`] of all schedules in this process, reads from the
//! store which schedules were added or removed, and starts a job when one is due. [`fire`] does that job, [`missed`]
//! decides which of several due ticks run, and [`start`] handles the time before the first tick.

mod agenda;
mod fire;
mod missed;
mod plan;
mod start;
mod ticker;

pub(crate) use plan::{Definition, Plan};
pub(crate) use ticker::keep_ticking;
