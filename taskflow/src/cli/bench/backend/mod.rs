//! The stores, each with its floor: the same work hand-written on the raw driver, with the same durability as taskflow.

mod choose;
mod contract;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod slots;
#[cfg(feature = "sqlite")]
mod sqlite;
mod target;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
mod worker;

pub(super) use self::choose::{Measured, with};
pub(super) use self::contract::{Backend, Facts, NoReader, OldReader, Wear};
pub(super) use self::target::Target;
