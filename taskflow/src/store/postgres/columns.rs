//! The values of a new task in the form its columns take.

use super::value::Instant;
use crate::model::{NewTask, time};
use crate::store::Start;

/// The arguments as JSON. The code that builds an `InsertTask` has checked them.
pub(super) fn args(new: &NewTask) -> &str {
    new.args.as_deref().unwrap_or("null")
}

/// The instant after which a task can no longer be started.
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
