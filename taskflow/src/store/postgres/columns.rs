//! What a new task says, as columns have it.

use super::value::Instant;
use crate::model::{NewTask, time};
use crate::store::Start;

/// Whoever makes an `InsertTask` has checked its arguments.
pub(super) fn args(new: &NewTask) -> &str {
    new.args.as_deref().unwrap_or("null")
}

/// When a task can no longer be started.
pub(super) fn expires_at(new: &NewTask) -> Option<Instant> {
    new.expires_at.map(|at| Instant(time::to_micros(at)))
}

pub(super) fn start_number(start: Start) -> i16 {
    match start {
        Start::Wait => 0,
        Start::LeaseIfIdle => 1,
        Start::Lease => 2,
        Start::Hold => 3,
    }
}
