//! The traits that `#[task]` implements: a task as a type.

use std::sync::Arc;

use super::{ArgumentError, BoxFuture, ContextError, Descriptor, Needs, Payload, TaskContext, TaskOutcome};
use crate::model::AddError;

/// A task as a type. `#[task]` implements it; do not implement it by hand. Use it as a bound in generic helpers:
///
/// ```
/// use taskflow::{AddError, Task, TaskHandle, TaskManager, task::TaskFn};
///
/// async fn enqueue<T: Task, P>(
///     tasks: &TaskManager,
///     task: impl TaskFn<P, Task = T>,
///     args: T::Args,
/// ) -> Result<TaskHandle<T::Value>, AddError> {
///     tasks.add_task(task, args).tag("origin", "helper").await
/// }
/// # #[taskflow::task] async fn ping(host: String) { let _ = host; }
/// # let _ = |tasks: TaskManager| async move { enqueue(&tasks, ping, ("h".to_owned(),)).await };
/// ```
pub trait Task: Sized + Send + Sync + 'static {
    /// The stored arguments: a tuple in the order of the argument parameters.
    type Args: Send + 'static;
    /// The values that the worker provides: a tuple in the order of the other parameters.
    type Injected: Send + 'static;
    /// The return type of the function.
    type Output: 'static;
    /// The value that is stored as the result of a success.
    type Value: 'static;
    /// The descriptor: the task without its types.
    const DESCRIPTOR: &'static Descriptor;

    #[doc(hidden)]
    fn call(injected: Self::Injected, args: Self::Args) -> BoxFuture<'static, Self::Output>;
    #[doc(hidden)]
    fn encode(args: &Self::Args) -> Result<Arc<str>, AddError>;
    #[doc(hidden)]
    fn decode(payload: &Payload<'_>) -> Result<Self::Args, ArgumentError>;
    #[doc(hidden)]
    fn inject(context: &TaskContext) -> Result<Self::Injected, ContextError>;
    #[doc(hidden)]
    fn needs(needs: &mut Needs);
    #[doc(hidden)]
    fn outcome(output: Self::Output) -> TaskOutcome;
}

/// A task with a synchronous function. A worker runs it on a thread of the blocking pool, and [`Call::run`](crate::Call::run)
/// runs it on the caller's thread.
#[diagnostic::on_unimplemented(
    message = "this task is an async function",
    label = "only the call of a synchronous function can be run here; `.await` this one"
)]
pub trait BlockingTask: Task {
    #[doc(hidden)]
    fn call_blocking(injected: Self::Injected, args: Self::Args) -> Self::Output;
}

/// A task with no injected parameters, so that a call of it can be added directly.
#[diagnostic::on_unimplemented(
    message = "this task needs values only a worker has",
    label = "a call of it cannot be made here",
    note = "use `add_task(name, (..))` with the stored arguments alone"
)]
pub trait Standalone: Task<Injected = ()> {}

#[diagnostic::do_not_recommend]
impl<T: Task<Injected = ()>> Standalone for T {}
