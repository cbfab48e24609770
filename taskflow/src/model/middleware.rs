//! Middleware: code around the attempts of tasks.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::slice;
use std::sync::Arc;

use futures_util::FutureExt;

use super::{AttemptOutcome, BoxFuture, Extensions, RunOutcome, Steering, Tags, TaskId};

/// Code around each attempt: it sees the task before the body runs, and the outcome afterwards. Use it to measure attempts, to
/// change their outcomes, or to pass values to the body. Give it to [`.middleware(..)`](crate::TaskManagerBuilder::middleware).
///
/// ```
/// use std::time::Duration;
/// use taskflow::AttemptOutcome;
/// use taskflow::observe::{BoxFuture, Middleware, Next, Run, RunOutcome};
///
/// /// Waits a minute when the other side limits how often it is called.
/// struct Throttled;
///
/// impl Middleware for Throttled {
///     fn run<'a>(&'a self, run: &'a Run, next: Next<'a>) -> BoxFuture<'a, RunOutcome> {
///         Box::pin(async move {
///             let outcome = next.run().await;
///             match outcome.error() {
///                 Some(error) if error.contains("429") => {
///                     println!("{} {} waits", run.name(), run.id());
///                     outcome.then_retry_in(Duration::from_secs(60))
///                 }
///                 _ => outcome,
///             }
///         })
///     }
/// }
///
/// let builder = taskflow::TaskManager::builder().middleware(Throttled);
/// # drop(builder);
/// ```
///
/// The first [`.middleware(..)`](crate::TaskManagerBuilder::middleware) is the outermost. Those of a task
/// (`#[task(middleware = [Throttled])]`) are inside the global ones.
///
/// - A panic or a timeout of the body reaches the middleware as an outcome, and so does a panic of a middleware further inside.
///   If the outermost middleware panics, the attempt ends as panicked.
/// - A middleware that does not call [`Next::run`] ends the attempt with what it returns. The body does not run, and its
///   arguments are not decoded.
/// - The timeout of the task covers the middleware and the body together. After the timeout, a cancel or a shutdown the body
///   ends as it does without middleware. The middleware must return within
///   [`cancel_grace`](crate::TaskManagerBuilder::cancel_grace) (at least 250 ms) after that moment; if the body ends later
///   than that, within 250 ms after the body. Then it is dropped. If the lease cannot be renewed, the middleware is dropped as
///   soon as the body has ended, and if the lease is lost, everything is dropped at once.
/// - The attempt ends with what the outermost middleware returns, with one exception: if a cancel, a shutdown, or a lease that is
///   lost or cannot be renewed ended the body, the middleware cannot change that outcome.
/// - [`TaskContext::current`](crate::TaskContext::current) works inside: a middleware can log and read the deadline. For a
///   synchronous task the middleware runs on the runtime, and the body on its own thread. A middleware that drops [`Next`]'s
///   future while a synchronous body runs does not stop it: the attempt ends when the body has returned.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a middleware",
    label = "this does not implement `taskflow::observe::Middleware`",
    note = "write `impl taskflow::observe::Middleware for {Self}`; the list of a task names values, such as a unit struct or a `static`"
)]
pub trait Middleware: Send + Sync + 'static {
    /// Runs the attempt: does its own work, and calls [`Next::run`] to run the further middleware and the body.
    fn run<'a>(&'a self, run: &'a Run, next: Next<'a>) -> BoxFuture<'a, RunOutcome>;
}

impl<M: Middleware + ?Sized> Middleware for Arc<M> {
    fn run<'a>(&'a self, run: &'a Run, next: Next<'a>) -> BoxFuture<'a, RunOutcome> {
        (**self).run(run, next)
    }
}

/// A middleware in the attribute of one task.
#[doc(hidden)]
pub type TaskMiddleware = fn() -> &'static dyn Middleware;

/// The attempt that a [`Middleware`] runs.
pub struct Run {
    pub(crate) id: TaskId,
    pub(crate) name: Arc<str>,
    pub(crate) queue: Arc<str>,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) tags: Tags,
    pub(crate) args: Arc<str>,
    pub(crate) extensions: Extensions,
}

/// Leaves out the arguments, which may be secret.
impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("queue", &self.queue)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl Run {
    /// The task's id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// The name or alias that the task was added under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its queue.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// The number of this attempt: 1 for the first.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The number of the last possible attempt.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// The tags that the task was added with.
    #[must_use]
    pub fn tags(&self) -> &Tags {
        &self.tags
    }

    /// The stored arguments: a JSON object keyed by parameter name.
    #[must_use]
    pub fn args(&self) -> &str {
        &self.args
    }

    /// Values that this middleware shares with the middleware further inside and with the body. The body reads them with
    /// [`TaskContext::extension`](crate::TaskContext::extension).
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }
}

/// The rest of the attempt: the middleware further inside, and the body.
#[must_use = "the body runs only if `run` is called and awaited"]
pub struct Next<'a> {
    run: &'a Run,
    global: slice::Iter<'a, Arc<dyn Middleware>>,
    own: slice::Iter<'a, TaskMiddleware>,
    body: BoxFuture<'a, RunOutcome>,
    panic_text: PanicText,
}

/// Converts a caught panic to a text.
pub(crate) type PanicText = fn(Box<dyn Any + Send>) -> String;

impl<'a> Next<'a> {
    pub(crate) fn new(
        run: &'a Run,
        global: &'a [Arc<dyn Middleware>],
        own: &'a [TaskMiddleware],
        body: BoxFuture<'a, RunOutcome>,
        panic_text: PanicText,
    ) -> Self {
        Self { run, global: global.iter(), own: own.iter(), body, panic_text }
    }

    /// Runs the rest of the attempt: the next middleware, or the body. It begins with the first poll of the future.
    #[must_use = "the body runs only if this is awaited"]
    pub fn run(mut self) -> BoxFuture<'a, RunOutcome> {
        let layer: &'a dyn Middleware = match self.global.next() {
            Some(layer) => &**layer,
            None => match self.own.next() {
                Some(layer) => layer(),
                None => return self.body,
            },
        };
        Box::pin(async move {
            let (run, panic_text) = (self.run, self.panic_text);
            // The call itself is also inside `catch_unwind`: a middleware may panic before it returns its future.
            let ran = AssertUnwindSafe(async move { layer.run(run, self).await }).catch_unwind().await;
            ran.unwrap_or_else(|panic| {
                RunOutcome::failed(AttemptOutcome::Panicked, panic_text(panic), Steering::Policy)
            })
        })
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("left", &(self.global.len() + self.own.len())).finish_non_exhaustive()
    }
}
