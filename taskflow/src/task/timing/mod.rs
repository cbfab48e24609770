//! When a schedule ticks, as a program says it at run time, and the instants that follow from it.
//!
//! [`cron`] and [`every`] are the two rules, and refuse what the attribute refuses. [`calendar`] reads a cron expression by the
//! clock of a time zone, over both changes of that clock. [`ticks`] gives the instants of either rule, and [`rule`]
//! holds either.

mod calendar;
mod cron;
mod every;
mod rule;
mod ticks;
mod zone;

pub use cron::Cron;
pub use every::Every;
pub use rule::Timing;
pub(crate) use ticks::Ticks;
pub use ticks::Upcoming;
