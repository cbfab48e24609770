//! Background tasks for Rust.

pub(crate) mod model;
pub mod store;

pub use model::*;
