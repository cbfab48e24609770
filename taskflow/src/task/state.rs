//! What the worker provides to a task: resources that are not arguments.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use super::TaskContext;

/// A value that the worker provides and the task takes as a parameter; what
/// [`.state(..)`](crate::TaskManagerBuilder::state) gave, cloned for each run.
///
/// ```
/// use taskflow::State;
///
/// #[derive(Clone)]
/// struct Mailer;
///
/// #[taskflow::task]
/// async fn send_email(State(mailer): State<Mailer>, to: String) {
///     let _ = (mailer, to);
/// }
/// # let _ = send_email;
/// ```
///
/// Starting a manager whose tasks need a state that nobody gave is an error that names the task and the type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<T>(pub T);

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for State<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

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

impl<T: Clone + Send + Sync + 'static> FromContext for State<T> {
    fn from_context(context: &TaskContext) -> Result<Self, ContextError> {
        context.states().get().map(State).ok_or_else(|| {
            ContextError::new(format!("there is no `State<{}>`: give it with `.state(..)`", type_name::<T>()))
        })
    }

    fn needs(needs: &mut Needs) {
        needs.state::<T>();
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

/// The states that the values of a task's parameters need.
#[derive(Debug, Default)]
pub struct Needs(Vec<(TypeId, &'static str)>);

impl Needs {
    /// A `.state(..)` of this type is needed.
    pub fn state<T: 'static>(&mut self) {
        self.0.push((TypeId::of::<T>(), type_name::<T>()));
    }

    /// The first type that is not there.
    pub(crate) fn first_missing(&self, states: &States) -> Option<&'static str> {
        self.0.iter().find(|(id, _)| !states.0.contains_key(id)).map(|(_, name)| *name)
    }
}

/// The values of `.state(..)`, by type.
#[derive(Default)]
pub(crate) struct States(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

/// How a value of one type is come by.
struct Provider<T>(Box<dyn Fn() -> Option<T> + Send + Sync>);

impl States {
    /// Each run gets a clone of `value`.
    pub(crate) fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        self.provide(move || Some(value.clone()));
    }

    /// Each run gets what `provide` gives.
    pub(crate) fn provide<T: 'static>(&mut self, provide: impl Fn() -> Option<T> + Send + Sync + 'static) {
        self.0.insert(TypeId::of::<T>(), Box::new(Provider(Box::new(provide))));
    }

    pub(crate) fn contains<T: 'static>(&self) -> bool {
        self.0.contains_key(&TypeId::of::<T>())
    }

    pub(crate) fn get<T: 'static>(&self) -> Option<T> {
        let provider: &Provider<T> = self.0.get(&TypeId::of::<T>())?.downcast_ref()?;
        (provider.0)()
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States").field("types", &self.0.len()).finish()
    }
}
