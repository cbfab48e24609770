//! What a failed run says of the next one.

use std::time::Duration;

/// What a failed run says of the next one.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    /// As the task's policy says.
    Policy,
    /// There is none.
    Abort,
    /// It comes after this time, if the policy allows one.
    RetryIn(Duration),
    /// It comes after this time, and this one does not count.
    Snooze(Duration),
}
