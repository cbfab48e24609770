//! Steering: how an error overrides the retry policy.

use std::time::Duration;

/// How the error of a failed run affects the next attempt.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    /// Follow the task's retry policy.
    Policy,
    /// Make no further attempt.
    Abort,
    /// Retry after this delay, if the policy has an attempt left.
    RetryIn(Duration),
    /// Run again after this delay; this attempt does not count.
    Snooze(Duration),
}
