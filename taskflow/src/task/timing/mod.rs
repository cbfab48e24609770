//! The timing of schedules: rules given at run time, and the instants at which a schedule ticks.
//!
//! [`cron`] and [`every`] are the two rules. They refuse the same values as the attribute. [`rule`] is their common form.
//! [`calendar`] evaluates a cron expression in a time zone, also when the clock of the zone changes. [`ticks`] computes the
//! instants of either rule.

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
