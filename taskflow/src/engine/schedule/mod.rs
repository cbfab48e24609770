//! Schedules: what a tick adds, and the loop that fires each tick once over all processes.
//!
//! A [`plan`] says what a schedule does. The [`ticker`] keeps the [`agenda`] of all schedules of this process, learns from the
//! store which were added or removed, and starts a job where something is due: [`fire`] does it, [`missed`] says which of several
//! due ticks run, and [`start`] is what comes before the first tick.

mod agenda;
mod fire;
mod missed;
mod plan;
mod start;
mod ticker;

pub(crate) use plan::{Definition, Plan};
pub(crate) use ticker::keep_ticking;
