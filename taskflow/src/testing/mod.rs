//! Tools for tests. For the tests of a program: [`TestTasks`] (feature `testing`). For authors of a store:
//! `contract` (feature `store-contract`).

#[cfg(feature = "testing")]
mod added;
#[cfg(all(feature = "testing", feature = "api"))]
mod admin;
#[cfg(feature = "testing")]
mod alone;
#[cfg(feature = "store-contract")]
pub mod contract;
#[cfg(feature = "testing")]
mod fault;
#[cfg(feature = "testing")]
mod faulty;
#[cfg(feature = "testing")]
mod gated;
#[cfg(feature = "testing")]
mod length;
#[cfg(feature = "testing")]
mod mishaps;
#[cfg(feature = "testing")]
mod process;
#[cfg(feature = "testing")]
mod ran;
#[cfg(feature = "testing")]
mod redacted;
#[cfg(feature = "testing")]
mod tasks;
#[cfg(feature = "testing")]
mod time;

#[cfg(feature = "testing")]
pub use self::added::AssertAdded;
#[cfg(feature = "testing")]
pub use self::alone::{Alone, TestCall, TestRun, test};
#[cfg(feature = "testing")]
pub use self::fault::{Fault, Op};
#[cfg(feature = "testing")]
pub use self::faulty::FaultyStore;
#[cfg(feature = "testing")]
pub use self::length::{Length, Moment};
#[cfg(feature = "testing")]
pub use self::mishaps::Held;
#[cfg(feature = "testing")]
pub use self::ran::{Drain, Drained, Ran};
#[cfg(feature = "testing")]
pub use self::redacted::Redacted;
#[cfg(feature = "testing")]
pub use self::tasks::{Spy, TestTasks, TestTasksBuilder};
