//! An add that is being described.

use std::borrow::Cow;
use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::iter;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use super::{TaskHandle, TaskManager};
use crate::engine::adder::Sent;
use crate::engine::holds::HoldOwner;
use crate::model::{AddError, NewTask, RetryPolicy, StoreError, StoreErrorKind, When, limits};
use crate::task::{Call, IntoNewTask, Standalone, Task, TaskFn, new_task};

impl TaskManager {
    /// Adds a task by its name and arguments: it is stored when the [`AddTask`] has been awaited.
    ///
    /// ```
    /// # #[taskflow::task] async fn send_email(to: String, subject: String) { let _ = (to, subject); }
    /// # async fn demo(tasks: taskflow::TaskManager) -> Result<(), taskflow::AddError> {
    /// let task = tasks
    ///     .add_task(send_email, ("ada@example.com".to_owned(), "Welcome".to_owned()))
    ///     .idempotency_key("welcome:42")
    ///     .tag("plan", "pro")
    ///     .await?;
    /// println!("accepted as {task}");
    /// # Ok(())
    /// # }
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "a task's name is a value without size")]
    pub fn add_task<T: Task, P>(&self, task: impl TaskFn<P, Task = T>, args: T::Args) -> AddTask<T::Value> {
        let _ = task;
        AddTask::new(self.clone(), None, new_task::<T>(&args))
    }

    /// Adds a call, of a task whose parameters are all arguments: `tasks.add(send_email(to, subject))`.
    pub fn add<T: Standalone>(&self, call: Call<T>) -> AddTask<T::Value> {
        AddTask::new(self.clone(), None, call.into_new_task())
    }

    /// Adds many tasks at once, at most [`NewTask::MAX_AT_ONCE`]: one round trip, all or none. Items are calls, adds that were not awaited, or
    /// [`NewTask`]s; the handles come in their order. A key that stands twice in one batch makes the second the
    /// duplicate of the first.
    ///
    /// ```
    /// # #[taskflow::task] async fn resize(image: u64) { let _ = image; }
    /// # async fn demo(tasks: taskflow::TaskManager) -> Result<(), taskflow::AddError> {
    /// let handles = tasks.add_all((1..=500).map(resize)).await?;
    /// assert_eq!(handles.len(), 500);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for one add; then none of the tasks is stored.
    pub async fn add_all<I: IntoNewTask>(
        &self,
        items: impl IntoIterator<Item = I>,
    ) -> Result<Vec<TaskHandle<I::Value>>, AddError> {
        let tasks: Vec<_> = items.into_iter().map(IntoNewTask::into_new_task).collect();
        self.add_new(tasks, None).await
    }

    /// Adds tasks all or none.
    pub(super) async fn add_new<V>(
        &self,
        tasks: Vec<NewTask>,
        hold_owner: Option<Arc<dyn HoldOwner>>,
    ) -> Result<Vec<TaskHandle<V>>, AddError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let adder = &self.0.adder;
        let held_by = hold_owner.as_ref().map(Arc::downgrade);
        let mut sent = adder.send(tasks.into_iter(), hold_owner)?;
        let inserted = poll_fn(|cx| adder.poll(&mut sent, cx)).await?;
        let handle = |inserted| TaskHandle::of(self.0.core.clone(), held_by.clone(), inserted);
        Ok(inserted.into_iter().map(handle).collect())
    }
}

/// An add that is being described: it is stored when it has been awaited, and its answer is a [`TaskHandle`].
///
/// Options not named here are those of the task's attribute. It owns all it needs, so it can be awaited in another
/// task; `tokio::spawn` takes futures and not what becomes one, so write `tokio::spawn(add.into_future())`.
#[must_use = "an add does nothing until it is awaited"]
pub struct AddTask<V> {
    manager: TaskManager,
    hold_owner: Option<Arc<dyn HoldOwner>>,
    task: NewTask,
    value: PhantomData<fn() -> V>,
}

impl<V> AddTask<V> {
    pub(super) fn new(manager: TaskManager, hold_owner: Option<Arc<dyn HoldOwner>>, task: NewTask) -> Self {
        Self { manager, hold_owner, task, value: PhantomData }
    }

    /// Higher runs first; equal ones first come, first served. 0 unless told.
    pub fn priority(mut self, priority: i16) -> Self {
        self.task.priority = priority;
        self
    }

    /// The queue to wait in; one that is not configured is an error.
    pub fn queue(mut self, queue: &str) -> Self {
        self.task.queue = Cow::Owned(queue.to_owned());
        self
    }

    /// Whether to take a free slot at once, before anything that waits, and in a web handler before the response is
    /// sent. It never exceeds a limit or a pause: without a free slot it waits like any other.
    pub fn eager(mut self, eager: bool) -> Self {
        self.task.eager = eager;
        self
    }

    /// While a task of this name with this key is pending, running or succeeded, the add is answered with that one
    /// ([`TaskHandle::is_duplicate`]) and stores nothing. At most 1,024 bytes.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.task.idempotency_key = Some(key.into());
        self
    }

    /// A label to find it by. A second of the same name replaces the first. At most 32, each name and value up to
    /// 1,024 bytes.
    pub fn tag(mut self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.task.tags.insert(key.into(), value.to_string());
        self
    }

    /// Labels to find it by.
    pub fn tags<K: Into<String>, T: fmt::Display>(mut self, tags: impl IntoIterator<Item = (K, T)>) -> Self {
        self.task.tags.extend(tags.into_iter().map(|(key, value)| (key.into(), value.to_string())));
        self
    }

    /// Runs it no sooner than this long after it was stored: up to a century.
    pub fn run_in(mut self, delay: Duration) -> Self {
        self.task.when = When::In(delay);
        self
    }

    /// Runs it no sooner than this instant, from 1970-01-01 to 2200-01-01 UTC, kept to the microsecond. One in the past is
    /// now.
    pub fn run_at(mut self, at: impl Into<SystemTime>) -> Self {
        self.task.when = When::At(at.into());
        self
    }

    /// Does not start it later than this instant, for the first time or again: a task that has not begun by then ends as
    /// cancelled, with the reason "expired". A run that has begun goes on. From 1970-01-01 to 2200-01-01 UTC, kept to the
    /// microsecond.
    pub fn expires_at(mut self, at: impl Into<SystemTime>) -> Self {
        self.task.expires_at = Some(at.into());
        self
    }

    /// Does not start it later than this long after now, by the clock of this process: up to a century. Otherwise as
    /// [`expires_at`](Self::expires_at).
    pub fn expires_in(mut self, length: Duration) -> Self {
        match (limits::length(length), SystemTime::now().checked_add(length)) {
            (Ok(()), Some(at)) => self.task.expires_at = Some(at),
            // Like an argument that cannot be written, it is said when the add is awaited.
            (Err(refused), _) => self.task.args = Err(refused.in_add("expires_in", &length)),
            (Ok(()), None) => unreachable!("a century from now is within every clock"),
        }
        self
    }

    /// Its queue may limit how many tasks of one such key run at once, over all processes
    /// ([`QueueConfig::key_concurrency`](crate::QueueConfig::key_concurrency)): `"tenant:42"`. At most 1,024 bytes.
    pub fn concurrency_key(mut self, key: impl Into<String>) -> Self {
        self.task.concurrency_key = Some(key.into());
        self
    }

    /// While a task of this name with this key waits for its first attempt, this add replaces its time, arguments and
    /// options and keeps its id ([`TaskHandle::is_replacement`]); otherwise it is a new task. At most 1,024 bytes.
    pub fn run_key(mut self, key: impl Into<String>) -> Self {
        self.task.run_key = Some(key.into());
        self
    }

    /// Attempts after the first.
    pub fn retries(self, retries: u32) -> Self {
        self.policy(|policy| policy.retries = retries)
    }

    /// How long to wait before the second attempt: up to a century, and no longer than [`max_delay`](Self::max_delay).
    pub fn delay(self, delay: Duration) -> Self {
        self.policy(|policy| policy.delay = delay)
    }

    /// Each further delay is this many times the one before: from 1 to 1000.
    pub fn backoff(self, factor: f64) -> Self {
        self.policy(|policy| policy.backoff = factor)
    }

    /// No delay before an attempt is longer: up to a century, or [`Duration::MAX`] for no limit. Default 1 hour; never
    /// shorter than [`delay`](Self::delay).
    pub fn max_delay(self, longest: Duration) -> Self {
        self.policy(|policy| policy.max_delay = longest)
    }

    /// Each delay is longer or shorter by up to this share, at random: from 0 to 1. Default 0.1.
    pub fn jitter(self, share: f64) -> Self {
        self.policy(|policy| policy.jitter = share)
    }

    /// How long one attempt may take: from 1 ms to a century, or [`Duration::MAX`] for no limit.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.policy(|policy| policy.timeout = Some(timeout))
    }

    /// How often it may ask to be run later ([`TaskError::snooze`](crate::TaskError::snooze)): 100 times unless told.
    pub fn max_snoozes(self, times: u32) -> Self {
        self.policy(|policy| policy.max_snoozes = times)
    }

    fn policy(mut self, change: impl FnOnce(&mut RetryPolicy)) -> Self {
        change(self.task.policy.to_mut());
        self
    }

    /// Adds it from synchronous code, and blocks this thread until it is stored. The manager's runtime must be at work
    /// meanwhile, which a `current_thread` one is only while another thread is in its `block_on`; while it is not, the add
    /// fails after `add_timeout`.
    ///
    /// # Errors
    /// As awaiting it does.
    ///
    /// # Panics
    /// When called on a thread that drives async code, where blocking could wait for itself: await it there.
    pub fn blocking(self) -> Result<TaskHandle<V>, AddError> {
        // A runtime of its own, so that `add_timeout` holds whatever the manager's does.
        let here = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| {
            let message = "the system gives no runtime to wait on";
            StoreError::with_source(StoreErrorKind::Unavailable, message, error)
        })?;
        here.block_on(AddFuture::new(self))
    }

    /// What is added, and through which manager.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn into_parts(self) -> (TaskManager, NewTask) {
        (self.manager, self.task)
    }
}

/// An add on its way: what awaiting an [`AddTask`] awaits. To drop it undoes nothing once it has been polled, unless it
/// still waits for room among the adds that are to be written: then it is not stored.
#[must_use = "an add does nothing until it is awaited"]
pub struct AddFuture<V>(Step<V>);

#[expect(
    clippy::large_enum_variant,
    reason = "what is large is moved out by the first poll: a box would cost more"
)]
enum Step<V> {
    Described(Option<AddTask<V>>),
    Sent(TaskManager, Sent, Option<Weak<dyn HoldOwner>>),
}

impl<V> AddFuture<V> {
    fn new(add: AddTask<V>) -> Self {
        Self(Step::Described(Some(add)))
    }
}

impl<V> Future for AddFuture<V> {
    type Output = Result<TaskHandle<V>, AddError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Step::Described(add) = &mut self.0 {
            let AddTask { manager, hold_owner, task, .. } =
                add.take().expect("an add is sent by its first poll");
            let held_by = hold_owner.as_ref().map(Arc::downgrade);
            let sent = manager.0.adder.send(iter::once(task), hold_owner)?;
            self.0 = Step::Sent(manager, sent, held_by);
        }
        let Step::Sent(manager, sent, held_by) = &mut self.0 else {
            unreachable!("the first poll has sent it")
        };
        let inserted = ready!(manager.0.adder.poll(sent, cx))?;
        let inserted = inserted.first().ok_or_else(|| sent.unknown("the store's answer names no task"))?;
        Poll::Ready(Ok(TaskHandle::of(manager.0.core.clone(), held_by.take(), *inserted)))
    }
}

impl<V> fmt::Debug for AddFuture<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AddFuture").finish_non_exhaustive()
    }
}

impl<V> IntoFuture for AddTask<V> {
    type Output = Result<TaskHandle<V>, AddError>;
    type IntoFuture = AddFuture<V>;

    fn into_future(self) -> AddFuture<V> {
        AddFuture::new(self)
    }
}

impl<V> IntoNewTask for AddTask<V> {
    type Value = V;

    fn into_new_task(self) -> NewTask {
        self.task
    }
}

impl<V> fmt::Debug for AddTask<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddTask").field("task", &self.task).finish_non_exhaustive()
    }
}
