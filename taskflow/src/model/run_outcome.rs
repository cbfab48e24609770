//! How an attempt ended, as middleware sees and changes it.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::{AttemptOutcome, Steering, limits, lossless};

/// How an attempt ended. [`Middleware`](super::Middleware) gets it from [`Next::run`](super::Next::run), and returns it
/// unchanged, changed, or replaced by another.
///
/// ```
/// use std::time::Duration;
/// use taskflow::{AttemptOutcome, observe::RunOutcome};
///
/// let outcome = RunOutcome::failure("429 Too Many Requests").then_retry_in(Duration::from_secs(60));
/// assert_eq!(outcome.outcome(), AttemptOutcome::Failed);
/// assert_eq!(outcome.error(), Some("429 Too Many Requests"));
/// ```
#[must_use = "the attempt ends with the outcome that the middleware returns"]
pub struct RunOutcome {
    outcome: AttemptOutcome,
    /// The result as JSON, or the error.
    text: Box<str>,
    steering: Steering,
}

impl RunOutcome {
    /// A success with this result, which must be a value of the type that the task returns. A result that cannot be stored
    /// (longer than 1 MiB, or not representable in JSON) makes it a failure that is not retried.
    pub fn success<T: Serialize>(result: &T) -> Self {
        let mut json = Vec::new();
        let written = lossless::write(&mut json, result).and_then(|()| match json.len() {
            length if length > limits::RESULT => {
                Err(format!("it has {length} bytes, and the limit is {}", limits::RESULT))
            }
            _ => String::from_utf8(json).map_err(|error| error.to_string()),
        });
        match written {
            Ok(json) => Self::succeeded(json.into()),
            Err(why) => Self::abort(format!("the middleware's result cannot be kept: {why}")),
        }
    }

    /// A failure with this error. The task's retry policy decides about the next attempt.
    pub fn failure(error: impl fmt::Display) -> Self {
        Self::failed(AttemptOutcome::Failed, error.to_string(), Steering::Policy)
    }

    /// A failure that is not retried, like [`TaskError::abort`](crate::TaskError::abort).
    pub fn abort(error: impl fmt::Display) -> Self {
        Self::failure(error).then_abort()
    }

    /// A failure that is retried after `delay`, if an attempt is left, like
    /// [`TaskError::retry_in`](crate::TaskError::retry_in).
    pub fn retry_in(delay: Duration, error: impl fmt::Display) -> Self {
        Self::failure(error).then_retry_in(delay)
    }

    /// No failure: the task runs again after `delay`, and the attempt does not count, like
    /// [`TaskError::snooze`](crate::TaskError::snooze).
    pub fn snooze(delay: Duration) -> Self {
        Self::failure(format_args!("snoozed for {delay:?}")).then_snooze(delay)
    }

    /// The same error, and no further attempt. A success stays as it is.
    pub fn then_abort(self) -> Self {
        self.then(Steering::Abort)
    }

    /// The same error, and the next attempt after `delay` instead of the policy's back-off, if an attempt is left. A success
    /// stays as it is.
    pub fn then_retry_in(self, delay: Duration) -> Self {
        self.then(Steering::RetryIn(delay))
    }

    /// The task runs again after `delay`, and the attempt does not count. A success stays as it is.
    pub fn then_snooze(self, delay: Duration) -> Self {
        self.then(Steering::Snooze(delay))
    }

    fn then(mut self, steering: Steering) -> Self {
        if !self.is_success() {
            self.steering = steering;
        }
        self
    }

    /// Whether the attempt succeeded.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.outcome == AttemptOutcome::Success
    }

    /// The outcome in one word: `Success`, `Failed`, `Panicked`, `TimedOut` or `Snoozed`; or, if a request to stop or a lost
    /// lease ended the body, `Cancelled`, `HandedBack`, `Interrupted` or `Lost`.
    #[must_use]
    pub fn outcome(&self) -> AttemptOutcome {
        match self.steering {
            Steering::Snooze(_) => AttemptOutcome::Snoozed,
            _ => self.outcome,
        }
    }

    /// The text of the error; `None` after a success.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        (!self.is_success()).then_some(&*self.text)
    }

    /// The result as JSON; `None` after a failure.
    #[must_use]
    pub fn result(&self) -> Option<&str> {
        self.is_success().then_some(&*self.text)
    }

    pub(crate) fn succeeded(result: Box<str>) -> Self {
        Self { outcome: AttemptOutcome::Success, text: result, steering: Steering::Policy }
    }

    pub(crate) fn failed(outcome: AttemptOutcome, error: String, steering: Steering) -> Self {
        Self { outcome, text: error.into(), steering }
    }

    /// The outcome, the result or the error, and what follows an error.
    pub(crate) fn into_parts(self) -> (AttemptOutcome, Box<str>, Steering) {
        (self.outcome, self.text, self.steering)
    }
}

impl fmt::Debug for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunOutcome")
            .field("outcome", &self.outcome())
            .field("error", &self.error())
            .finish_non_exhaustive()
    }
}
