//! The place where the engine reads clocks, waits, draws random numbers, and spawns tasks and threads.
//!
//! All code that measures time or waits does so through its [`Seam`], so that a test can replace the clocks. Elsewhere Clippy
//! refuses the functions of the system and of tokio (`.clippy.toml` of this crate). There are exceptions: the drivers of
//! database servers and files wait for real machines, the command runs in real time, and a few methods of the public types in
//! `model` have no seam and read the system's clock.

#![allow(clippy::disallowed_methods, reason = "the engine calls these functions through this module")]

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
