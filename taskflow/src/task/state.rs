//! `State<T>`: a shared resource of the worker as a parameter of a task.

use std::any::type_name;
use std::ops::{Deref, DerefMut};

use super::{ContextError, FromContext, Needs, TaskContext};

/// A value that the worker provides to a task as a parameter. It is the value given to
/// [`.state(..)`](crate::TaskManagerBuilder::state), cloned for each run.
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
/// If a task needs a state that the builder does not provide, `start` fails with an error that names the task and the type.
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

impl<T: Clone + Send + Sync + 'static> FromContext for State<T> {
    fn from_context(context: &TaskContext) -> Result<Self, ContextError> {
        context.states().get().map(State).ok_or_else(|| {
            ContextError::new(format!(
                "there is no `State<{}>`: provide it with `.state(..)`",
                type_name::<T>()
            ))
        })
    }

    fn needs(needs: &mut Needs) {
        needs.state::<T>();
    }
}
