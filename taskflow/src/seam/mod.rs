//! The one place where this crate reads a clock, waits, draws random numbers and spawns.
//!
//! Everything that measures or waits has a [`Seam`] and asks it, so that one value decides which time it lives in. Clippy
//! refuses the functions behind it everywhere else (`.clippy.toml` of this crate). The drivers of database servers and
//! files are the exception: they wait for real machines.

#![allow(clippy::disallowed_methods, reason = "this is the place that the others ask")]

#[cfg(feature = "testing")]
mod clock;
mod spawn;
mod time;
#[cfg(feature = "testing")]
mod world;

#[cfg(feature = "testing")]
pub(crate) use self::clock::{TestClock, Wait};
pub(crate) use self::time::{Instant, Seam, Sleep};
#[cfg(feature = "testing")]
pub(crate) use self::world::World;

/// A random number from 0 up to, but not including, 1.
#[inline]
pub(crate) fn random() -> f64 {
    fastrand::f64()
}
