//! Injection: values that the worker provides to a task, besides its arguments.

use std::fmt;

use super::{Needs, TaskContext};

/// A type that the worker can make from the context of a run: [`TaskContext`], [`State<T>`](crate::State),
/// [`TaskManager`](crate::TaskManager), and types of your own. A parameter of your own type is marked `#[inject]`.
///
/// ```
/// use taskflow::{FromContext, TaskContext, task::ContextError};
///
/// struct Attempt(u32);
///
/// impl FromContext for Attempt {
///     fn from_context(context: &TaskContext) -> Result<Self, ContextError> {
///         Ok(Self(context.attempt()))
///     }
/// }
///
/// #[taskflow::task]
/// async fn greet(#[inject] attempt: Attempt, name: String) {
///     let _ = (attempt.0, name);
/// }
/// # let _ = greet;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be provided to a task",
    label = "the worker does not know how to make this",
    note = "a shared resource is taken as `taskflow::State<T>` (axum's `State` belongs to its handlers) and given with `TaskManager::builder().state(..)`",
    note = "or implement `taskflow::FromContext` for it"
)]
pub trait FromContext: Sized {
    /// Makes the value for one run.
    ///
    /// # Errors
    /// When the value cannot be made. The attempt then fails with this error.
    fn from_context(context: &TaskContext) -> Result<Self, ContextError>;

    /// Declares the states that [`from_context`](Self::from_context) needs, so that `start` finds a missing one.
    fn needs(needs: &mut Needs) {
        let _ = needs;
    }
}

impl FromContext for TaskContext {
    fn from_context(context: &TaskContext) -> Result<Self, ContextError> {
        Ok(context.clone())
    }
}

/// The error of a value that could not be provided to a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ContextError {
    message: String,
}

impl ContextError {
    /// An error with this text.
    #[must_use]
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string() }
    }
}
