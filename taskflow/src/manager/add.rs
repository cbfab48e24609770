//! Adding tasks: `add_task`, `add`, `add_all`, and [`AddTask`] with its options.

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
use crate::model::{AddError, NewTask, RetryPolicy, StoreError, StoreErrorKind, TraceContext, When, limits};
use crate::task::{Call, IntoNewTask, Standalone, Task, TaskFn, new_task};

impl TaskManager {
    /// Adds a task by its name and arguments. Await the [`AddTask`] to store it.
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

    /// Adds a call of a task: `tasks.add(send_email(to, subject))`. For tasks with provided parameters, use
    /// [`add_task`](Self::add_task): here all parameters must be arguments.
    pub fn add<T: Standalone>(&self, call: Call<T>) -> AddTask<T::Value> {
        AddTask::new(self.clone(), None, call.into_new_task())
    }

    /// Adds many tasks at once, at most [`NewTask::MAX_AT_ONCE`], in one round trip, all or none. Items are calls, adds
    /// that were not awaited, or [`NewTask`]s; the handles have the order of the items. If two items of a batch have the
    /// same idempotency key, the second is a duplicate of the first.
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
    /// As for one add. After an error none of the tasks is stored.
    pub async fn add_all<I: IntoNewTask>(
        &self,
        items: impl IntoIterator<Item = I>,
    ) -> Result<Vec<TaskHandle<I::Value>>, AddError> {
        let tasks: Vec<_> = items.into_iter().map(IntoNewTask::into_new_task).collect();
        self.add_new(tasks, None).await
    }

    /// Adds all of these tasks or none.
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
        // A hook may change the name. Then the handle does not keep it, and a caller that needs it reads the record.
        let is_kept = self.0.core.on_add.is_empty();
        let names: Vec<_> = tasks.iter().map(|task| is_kept.then(|| task.name.clone())).collect();
        let mut sent = adder.send(tasks.into_iter(), hold_owner)?;
        let inserted = poll_fn(|cx| adder.poll(&mut sent, cx)).await?;
        let handle = |(inserted, name)| TaskHandle::of(self.0.core.clone(), held_by.clone(), name, inserted);
        Ok(inserted.into_iter().zip(names).map(handle).collect())
    }
}

/// A task about to be added. Set its options, then await it: that stores the task and returns a [`TaskHandle`].
///
/// Options that are not set here come from the task's attribute. The value owns everything it needs, so another tokio task
/// can await it. `tokio::spawn` takes a `Future`, and this is an `IntoFuture`: write `tokio::spawn(add.into_future())`.
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

    /// Sets the priority. Higher runs first; tasks of equal priority run in the order of their adds. Default: the task's
    /// attribute, or 0.
    pub fn priority(mut self, priority: i16) -> Self {
        self.task.priority = priority;
        self
    }

    /// Sets the queue. A queue that is not configured is an error ([`AddError::UnknownQueue`]).
    pub fn queue(mut self, queue: &str) -> Self {
        self.task.queue = Cow::Owned(queue.to_owned());
        self
    }

    /// Whether the task takes a free slot of this process at once, before all waiting tasks, and in a web handler before the
    /// response is sent. An eager task respects limits and pauses: without a free slot, or in a queue with limits over all
    /// processes, it waits like any other.
    pub fn eager(mut self, eager: bool) -> Self {
        self.task.eager = eager;
        self
    }

    /// Prevents duplicates. While a task of this name with this key is pending, running or succeeded, the add stores
    /// nothing and returns the handle of that task ([`TaskHandle::is_duplicate`]). At most 1,024 bytes.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.task.idempotency_key = Some(key.into());
        self
    }

    /// Adds a tag: a label by which the task can be found. A second tag of the same name replaces the first. At most 32 tags,
    /// each name and value up to 1,024 bytes.
    pub fn tag(mut self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.task.tags.insert(key.into(), value.to_string());
        self
    }

    /// Adds several [tags](Self::tag).
    pub fn tags<K: Into<String>, T: fmt::Display>(mut self, tags: impl IntoIterator<Item = (K, T)>) -> Self {
        self.task.tags.extend(tags.into_iter().map(|(key, value)| (key.into(), value.to_string())));
        self
    }

    /// Starts the task no sooner than this long after it was stored: up to a century.
    pub fn run_in(mut self, delay: Duration) -> Self {
        self.task.when = When::In(delay);
        self
    }

    /// Starts the task no sooner than this instant, from 1970-01-01 to 2200-01-01 UTC, kept to the microsecond. An instant
    /// in the past means now.
    pub fn run_at(mut self, at: impl Into<SystemTime>) -> Self {
        self.task.when = When::At(at.into());
        self
    }

    /// Sets an expiry: no attempt, first or later, starts after this instant. A task that still waits then becomes cancelled
    /// with the reason "expired"; a run that has begun continues. From 1970-01-01 to 2200-01-01 UTC, kept to the
    /// microsecond.
    pub fn expires_at(mut self, at: impl Into<SystemTime>) -> Self {
        self.task.expires_at = Some(at.into());
        self
    }

    /// Sets an [expiry](Self::expires_at) this long from now, by the clock of this process: up to a century.
    pub fn expires_in(mut self, length: Duration) -> Self {
        match (limits::length(length), self.manager.0.core.seam.now().checked_add(length)) {
            (Ok(()), Some(at)) => self.task.expires_at = Some(at),
            // Awaiting the add returns this error, like the error of an argument that cannot be serialized.
            (Err(refused), _) => self.task.args = Err(refused.in_add("expires_in", &length)),
            (Ok(()), None) => unreachable!("a century from now is within every clock"),
        }
        self
    }

    /// Sets the concurrency key, such as `"tenant:42"`. The queue may limit how many tasks with the same key run at once,
    /// over all processes ([`QueueConfig::key_concurrency`](crate::QueueConfig::key_concurrency)). At most 1,024 bytes.
    pub fn concurrency_key(mut self, key: impl Into<String>) -> Self {
        self.task.concurrency_key = Some(key.into());
        self
    }

    /// Makes the task replaceable while it waits. If a task of this name with this key waits for its first attempt, the add
    /// replaces that task's time, arguments and options and keeps its id ([`TaskHandle::is_replacement`]). Otherwise it
    /// adds a new task. At most 1,024 bytes.
    pub fn run_key(mut self, key: impl Into<String>) -> Self {
        self.task.run_key = Some(key.into());
        self
    }

    /// Puts the task into this trace. By default it belongs to the trace of the code that adds it; see [`TraceContext`].
    pub fn trace_context(mut self, trace: TraceContext) -> Self {
        self.task.trace = Some(trace);
        self
    }

    /// Sets how many attempts may follow the first.
    pub fn retries(self, retries: u32) -> Self {
        self.policy(|policy| policy.retries = retries)
    }

    /// Sets the delay before the second attempt: up to a century, and no longer than [`max_delay`](Self::max_delay).
    pub fn delay(self, delay: Duration) -> Self {
        self.policy(|policy| policy.delay = delay)
    }

    /// Sets the factor from each delay to the next: from 1 to 1000.
    pub fn backoff(self, factor: f64) -> Self {
        self.policy(|policy| policy.backoff = factor)
    }

    /// Sets the longest delay before an attempt, without jitter: up to a century, or [`Duration::MAX`] for no limit. Default
    /// 1 hour. A longest delay shorter than [`delay`](Self::delay) is an error.
    pub fn max_delay(self, longest: Duration) -> Self {
        self.policy(|policy| policy.max_delay = longest)
    }

    /// Sets the random part of each delay: the share, from 0 to 1, by which it may be longer or shorter. Default 0.1.
    pub fn jitter(self, share: f64) -> Self {
        self.policy(|policy| policy.jitter = share)
    }

    /// Sets how long one attempt may take: from 1 ms to a century, or [`Duration::MAX`] for no limit.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.policy(|policy| policy.timeout = Some(timeout))
    }

    /// Sets how often the task may ask to run later ([`TaskError::snooze`](crate::TaskError::snooze)). Default 100.
    pub fn max_snoozes(self, times: u32) -> Self {
        self.policy(|policy| policy.max_snoozes = times)
    }

    fn policy(mut self, change: impl FnOnce(&mut RetryPolicy)) -> Self {
        change(self.task.policy.to_mut());
        self
    }

    /// Adds the task from synchronous code, and blocks this thread until it has been stored. The manager's runtime must run
    /// meanwhile; otherwise the add fails after `add_timeout`. (A `current_thread` runtime runs only while another thread is in
    /// its `block_on`.)
    ///
    /// # Errors
    /// As for awaiting it, and [`AddError::Store`] when the system cannot create a runtime for the wait.
    ///
    /// # Panics
    /// When it is called on a thread that drives async code, where blocking can deadlock: await the add there instead.
    pub fn blocking(self) -> Result<TaskHandle<V>, AddError> {
        // Use a separate runtime, so that `add_timeout` works even if the manager's runtime is stuck.
        let here = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| {
            let message = "the system could not create a runtime to wait for the add";
            StoreError::with_source(StoreErrorKind::Unavailable, message, error)
        })?;
        here.block_on(AddFuture::new(self))
    }

    /// The manager and the task to add.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn into_parts(self) -> (TaskManager, NewTask) {
        (self.manager, self.task)
    }
}

/// The future of an [`AddTask`].
///
/// Dropping it before the first poll adds nothing. Dropping it later does not undo the add, unless the add still waits for
/// room in the write buffer: then the task is not stored.
#[must_use = "an add does nothing until it is awaited"]
pub struct AddFuture<V>(Step<V>);

enum Step<V> {
    Described(Option<AddTask<V>>),
    Sent(TaskManager, Sent, Option<Weak<dyn HoldOwner>>, Option<Cow<'static, str>>),
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
            let name = manager.0.core.on_add.is_empty().then(|| task.name.clone());
            let sent = manager.0.adder.send(iter::once(task), hold_owner)?;
            self.0 = Step::Sent(manager, sent, held_by, name);
        }
        let Step::Sent(manager, sent, held_by, name) = &mut self.0 else {
            unreachable!("the first poll has sent it")
        };
        let inserted = ready!(manager.0.adder.poll(sent, cx))?;
        let inserted = inserted.first().expect("the adder accepts no answer that lacks a task");
        Poll::Ready(Ok(TaskHandle::of(manager.0.core.clone(), held_by.take(), name.take(), *inserted)))
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
