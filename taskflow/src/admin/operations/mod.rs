//! Acts on many tasks (*operations*). An act can be previewed, runs in bounded batches, can be stopped half way, and can be
//! resumed after a crash.
//!
//! The filter is frozen at the instant of the preview, so an act by filter never reaches a task that was added or ended later.
//! Between two batches the runner pauses for as long as the batch took: the workers get about half of the store's time.
//! The state of an operation is a document in the store, so every process shows it and can stop it.

mod control;
mod liveness;
mod operation;
mod pace;
mod preview;
mod runner;

pub use operation::{Operation, OperationState, Selection, Verb};
pub use preview::Preview;
pub use runner::Running;
