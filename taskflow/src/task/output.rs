//! Return types of tasks, and their conversion to an outcome.

use std::convert::Infallible;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::buffer::Buffer;
use super::{ErrorReport, Steering};
use crate::model::{limits, lossless};

/// A type that a task can return: `()`, or `Result<T, E>` with a [`TaskValue`] `T` and an `E` that implements `Display`.
#[diagnostic::on_unimplemented(
    message = "a task cannot return `{Self}`",
    label = "expected `()` or `Result<T, E>` where `T: Serialize + DeserializeOwned` and `E: Display`",
    note = "to keep a value as the task's result, return `Result<{Self}, E>`"
)]
pub trait TaskOutput {
    /// The value that is stored as the result of a success.
    type Value: TaskValue;
    /// The error of a failure.
    type Error;

    #[doc(hidden)]
    fn into_result(self) -> Result<Self::Value, Self::Error>;

    /// Converts the returned value into an outcome. `judge` makes the outcome of an error.
    #[doc(hidden)]
    fn into_outcome(self, judge: impl FnOnce(&Self::Error) -> TaskOutcome) -> TaskOutcome
    where
        Self: Sized,
    {
        match self.into_result() {
            Ok(value) => TaskOutcome::success(&value),
            Err(error) => judge(&error),
        }
    }
}

impl TaskOutput for () {
    type Value = ();
    type Error = Infallible;

    fn into_result(self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl<T: TaskValue, E: fmt::Display + Send + 'static> TaskOutput for Result<T, E> {
    type Value = T;
    type Error = E;

    fn into_result(self) -> Self {
        self
    }
}

/// A type that can be stored as the result of a task: any owned type that serde can write and read back.
///
/// It is implemented for all such types; do not implement it by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be kept as the result of a task",
    label = "this task's value cannot be stored",
    note = "the `T` of a task's `Result<T, E>` must implement `serde::Serialize` and `serde::de::DeserializeOwned`, and be `Send + 'static`"
)]
pub trait TaskValue: Sized + Send + 'static {
    #[doc(hidden)]
    fn to_json(&self) -> Result<Box<str>, String>;
    #[doc(hidden)]
    fn from_json(json: &str) -> Result<Self, String>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> TaskValue for T {
    fn to_json(&self) -> Result<Box<str>, String> {
        let mut json = Buffer::take();
        lossless::write(&mut json.0, self)?;
        // A type may not be able to read the JSON that it writes. Callers that wait for the value must be able to read it.
        if json.0 != b"null" {
            Self::from_json(json.text()).map_err(|error| format!("it does not decode: {error}"))?;
        }
        Ok(json.text().into())
    }

    fn from_json(json: &str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }
}

/// The outcome of a run that returned.
#[doc(hidden)]
#[derive(Debug)]
pub enum TaskOutcome {
    Success { result: Box<str> },
    Failure { error: String, steering: Steering },
}

#[doc(hidden)]
impl TaskOutcome {
    /// The longest result that is stored, in bytes of JSON.
    pub const MAX_RESULT: usize = limits::RESULT;

    #[must_use]
    pub fn success<T: TaskValue>(value: &T) -> Self {
        let lost = |why: String| Self::Failure {
            error: format!("the task succeeded, but its result cannot be kept: {why}"),
            // The task has done its work. A retry would give the same result.
            steering: Steering::Abort,
        };
        match value.to_json() {
            Ok(json) if json.len() > Self::MAX_RESULT => {
                lost(format!("it has {} bytes, and the limit is {}", json.len(), Self::MAX_RESULT))
            }
            Ok(result) => Self::Success { result },
            Err(why) => lost(why),
        }
    }

    /// The outcome of an error. `retry` is the answer of `retry_if` for this error.
    #[must_use]
    pub fn failure(report: ErrorReport, retry: bool) -> Self {
        let steering = match report.steering {
            Steering::Policy if !retry => Steering::Abort,
            steering => steering,
        };
        Self::Failure { error: report.text, steering }
    }
}
