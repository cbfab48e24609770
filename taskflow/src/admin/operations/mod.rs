//! Acts on many tasks: previewed, run in bounded batches, stopped half way, and gone on with after a crash.
//!
//! The filter is frozen at the instant at which the operator saw the preview, so that an act never reaches a task that came
//! after it. Between two batches the runner pauses for as long as the batch took: the workers get at least half of the
//! store's time. The state of an operation is a document in the store, so every process shows it and can stop it.

mod control;
mod life;
mod operation;
mod pace;
mod preview;
mod runner;

pub use operation::{Operation, OperationState, Selection, Verb};
pub use preview::Preview;
pub use runner::Running;
