//! What the worker provides to a task: values that are not arguments.

use std::fmt;

use super::{Needs, TaskContext};

/// A type that can be made from the context of a run: [`TaskContext`], [`State<T>`], [`TaskManager`](crate::TaskManager),
/// and your own, as a parameter marked `#[inject]`.
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
    /// The value for this run.
    ///
    /// # Errors
    /// When it cannot be made; the attempt then fails with this error.
    fn from_context(context: &TaskContext) -> Result<Self, ContextError>;

    /// What of the builder's states making it needs, so that a missing one is found at start.
    fn needs(needs: &mut Needs) {
        let _ = needs;
    }
}

impl FromContext for TaskContext {
    fn from_context(context: &TaskContext) -> Result<Self, ContextError> {
        Ok(context.clone())
    }
}

/// Why a value could not be provided to a task.
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
