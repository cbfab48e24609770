//! A call of a task: await it here, or add it to a queue.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use std::borrow::Cow;

use super::{BlockingTask, BoxFuture, Standalone, Task};
use crate::model::NewTask;

/// The result of calling a task function: a call that has not run yet. Await it to run the function here, without a queue. Or
/// pass it to a [`TaskManager`](crate::TaskManager), which stores it so that a worker runs it.
///
/// ```standalone_crate
/// #[taskflow::task]
/// async fn double(n: u32) -> Result<u32, String> {
///     Ok(n * 2)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = taskflow::TaskManager::builder().start().await?;
///
/// assert_eq!(double(4).await, Ok(8)); // here
/// let handle = tasks.add(double(4)).await?; // in the queue
/// assert_eq!(handle.wait().await?, 8);
/// # Ok(())
/// # }
/// ```
#[must_use = "a task call does nothing until it is awaited or added to a queue"]
pub struct Call<T: Task>(Step<T>);

enum Step<T: Task> {
    Ready(Option<(T::Injected, T::Args)>),
    Running(BoxFuture<'static, T::Output>),
}

impl<T: Task> Call<T> {
    #[doc(hidden)]
    pub fn new(injected: T::Injected, args: T::Args) -> Self {
        Self(Step::Ready(Some((injected, args))))
    }

    /// Runs the function on this thread and returns its result. For tasks that are synchronous functions.
    #[must_use = "this is the value that the function returned"]
    pub fn run(self) -> T::Output
    where
        T: BlockingTask,
    {
        match self.0 {
            Step::Ready(Some((injected, args))) => T::call_blocking(injected, args),
            Step::Ready(None) | Step::Running(_) => {
                unreachable!("a call is moved out by its first poll or by `run`")
            }
        }
    }
}

// The arguments are moved out before the future is pinned.
impl<T: Task> Unpin for Call<T> {}

impl<T: Task> Future for Call<T> {
    type Output = T::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        if let Step::Ready(ready) = &mut self.0 {
            let (injected, args) = ready.take().expect("a call is ready until its first poll");
            self.0 = Step::Running(T::call(injected, args));
        }
        match &mut self.0 {
            Step::Running(body) => Poll::Ready(ready!(body.as_mut().poll(cx))),
            Step::Ready(_) => unreachable!("the first poll has started it"),
        }
    }
}

impl<T: Task> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Call").field(&T::DESCRIPTOR.config().name).finish()
    }
}

/// A value that [`add_all`](crate::TaskManager::add_all) can add: a task call, an add with options that has not been awaited, or
/// a [`NewTask`]. Use [`NewTask`]s to add tasks of different kinds at once.
///
/// ```
/// # #[taskflow::task] async fn ping(host: String) { let _ = host; }
/// # #[taskflow::task] async fn report() {}
/// use taskflow::{TaskManager, task::IntoNewTask};
///
/// # async fn demo(tasks: TaskManager) -> Result<(), taskflow::AddError> {
/// tasks.add_all(["a", "b"].map(|host| ping(host.to_owned()))).await?;
/// tasks.add_all([
///     tasks.add_task(ping, ("c".to_owned(),)).priority(9).into_new_task(),
///     report().into_new_task(),
/// ]).await?;
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be added",
    label = "expected a call such as `send_email(..)`, an un-awaited `tasks.add_task(..)`, or a `NewTask`"
)]
pub trait IntoNewTask {
    /// The value that the task returns: the type of the handle's [`wait`](crate::TaskHandle::wait).
    type Value;

    /// Converts into a task without its Rust type.
    fn into_new_task(self) -> NewTask;
}

impl<T: Standalone> IntoNewTask for Call<T> {
    type Value = T::Value;

    fn into_new_task(self) -> NewTask {
        match self.0 {
            Step::Ready(Some((_, args))) => new_task::<T>(&args),
            Step::Ready(None) | Step::Running(_) => {
                let name = T::DESCRIPTOR.config().name;
                let message = "it has already been polled, so its arguments are gone".to_owned();
                NewTask::new(name, Err(crate::model::AddError::Option { option: "call", message }))
            }
        }
    }
}

impl IntoNewTask for NewTask {
    type Value = serde_json::Value;

    fn into_new_task(self) -> NewTask {
        self
    }
}

/// A new task `T` with these arguments and the options of its attribute.
pub(crate) fn new_task<T: Task>(args: &T::Args) -> NewTask {
    let config = T::DESCRIPTOR.config();
    let mut task = NewTask::of_call(config.name, T::encode(args));
    task.queue = Cow::Borrowed(config.queue);
    task.priority = config.priority;
    task.eager = config.eager;
    task.policy = Cow::Borrowed(&config.policy);
    task
}
