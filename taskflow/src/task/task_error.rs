//! `TaskError`: an error that decides about the next attempt.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::Steering;

/// An error that can override the retry policy of its task. Return it from a task that must decide what follows a failure. `?`
/// converts any error to it, and then the policy decides about the next attempt. An error made with [`abort`](Self::abort),
/// [`retry_in`](Self::retry_in) or [`snooze`](Self::snooze) decides itself.
///
/// ```
/// use std::time::Duration;
/// use taskflow::TaskError;
///
/// #[taskflow::task(retries = 5)]
/// async fn charge(order: u64) -> Result<(), TaskError> {
///     let answer: u16 = "402".parse()?; // any error is retried according to the policy
///     match answer {
///         200 => Ok(()),
///         402 => Err(TaskError::abort("the card was declined")), // a retry would not help
///         429 => Err(TaskError::retry_in(Duration::from_secs(30), "rate limited")),
///         _ => Err(TaskError::snooze(Duration::from_secs(60))), // not a failure: run again later
///     }
/// }
/// ```
///
/// Like `anyhow::Error` it does not implement [`std::error::Error`], because then `?` could not convert every error. To use it
/// as one, convert it to a `Box<dyn Error + Send + Sync>`. There it keeps its effect, even as the source of another error.
pub struct TaskError {
    steering: Steering,
    error: Box<dyn StdError + Send + Sync>,
}

impl TaskError {
    /// An error after which the task is not retried, because a further attempt would fail too.
    #[must_use]
    pub fn abort(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { steering: Steering::Abort, error: error.into() }
    }

    /// An error after which the task is retried after `delay` instead of the policy's back-off, if an attempt is left. A longer
    /// `delay` than a century counts as a century.
    #[must_use]
    pub fn retry_in(delay: Duration, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { steering: Steering::RetryIn(delay), error: error.into() }
    }

    /// Not a failure: the task runs again after `delay`, and this attempt does not count. Use it when something that the task
    /// needs is not ready yet. A task may snooze `max_snoozes` times (an option of the task, default 100); one more snooze is a
    /// failed attempt.
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

/// A [`TaskError`] as an element of an error chain.
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
