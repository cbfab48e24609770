//! Errors that steer what comes after them.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::Steering;

/// An error that says what is to come after it. Any error becomes one with `?`, and then the task's own retry policy
/// decides; made with [`abort`](Self::abort), [`retry_in`](Self::retry_in) or [`snooze`](Self::snooze) it decides itself.
///
/// ```
/// use std::time::Duration;
/// use taskflow::TaskError;
///
/// #[taskflow::task(retries = 5)]
/// async fn charge(order: u64) -> Result<(), TaskError> {
///     let answer: u16 = "402".parse()?; // any error is retried as the policy says
///     match answer {
///         200 => Ok(()),
///         402 => Err(TaskError::abort("the card was declined")), // no retry will change that
///         429 => Err(TaskError::retry_in(Duration::from_secs(30), "rate limited")),
///         _ => Err(TaskError::snooze(Duration::from_secs(60))), // not a failure at all
///     }
/// }
/// ```
///
/// Like `anyhow::Error` it does not itself implement [`std::error::Error`], or `?` could not take every error. As a
/// `Box<dyn Error + Send + Sync>` it does, and steers from there too, also as a source of another error.
pub struct TaskError {
    steering: Steering,
    error: Box<dyn StdError + Send + Sync>,
}

impl TaskError {
    /// Do not retry: no further attempt would go better.
    #[must_use]
    pub fn abort(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { steering: Steering::Abort, error: error.into() }
    }

    /// Retry after `delay` instead of the policy's back-off, if an attempt is left. A century at most.
    #[must_use]
    pub fn retry_in(delay: Duration, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { steering: Steering::RetryIn(delay), error: error.into() }
    }

    /// Run again after `delay`, and do not count this attempt: what the task waits for is not there yet. A task may do so
    /// 100 times unless its option `max_snoozes` says otherwise; once more is a failed attempt.
    #[must_use]
    pub fn snooze(delay: Duration) -> Self {
        Self { steering: Steering::Snooze(delay), error: format!("snoozed for {delay:?}").into() }
    }

    pub(super) fn steering(&self) -> Steering {
        self.steering
    }

    pub(super) fn inner(&self) -> &(dyn StdError + 'static) {
        &*self.error
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self { steering: Steering::Policy, error: Box::new(error) }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskError").field("steering", &self.steering).field("error", &self.error).finish()
    }
}

impl From<TaskError> for Box<dyn StdError + Send + Sync> {
    fn from(error: TaskError) -> Self {
        Box::new(SteeringError(error))
    }
}

/// A [`TaskError`] as a link of a chain of errors.
#[derive(Debug)]
pub(super) struct SteeringError(pub(super) TaskError);

impl fmt::Display for SteeringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl StdError for SteeringError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.error.source()
    }
}
