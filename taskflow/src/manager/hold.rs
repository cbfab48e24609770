//! Tasks that are held until their caller says what becomes of them.

use std::fmt;
use std::future::IntoFuture;
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{AddTask, TaskHandle, TaskManager};
use crate::engine::holds::HoldOwner;
use crate::engine::release::Ending;
use crate::engine::retry::shortened;
use crate::model::{AddError, Error, TaskId, TaskSource, TraceContext};
use crate::store::{HoldOutcome, RunRef};
use crate::task::{BoxFuture, Call, IntoNewTask, Standalone, Task, TaskFn, new_task};

impl TaskManager {
    /// A [`Hold`]: tasks that are added through it are stored at once and run when it is released.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.hold_as(TaskSource::Manager, None)
    }

    /// A hold whose tasks were added by this, and belong to this trace.
    pub(crate) fn hold_as(&self, source: TaskSource, trace: Option<TraceContext>) -> Hold {
        let state = Mutex::new(State::Open(Vec::new()));
        Hold(Arc::new(HeldTasks { manager: self.clone(), source, trace, state }))
    }
}

/// Stores tasks at once and holds them: no process runs them until [`release`](Self::release), and
/// [`cancel`](Self::cancel) cancels them. Made by [`TaskManager::hold`].
///
/// It ties tasks to something that taskflow does not see: a transaction in another database, or the response of a web
/// framework other than axum (`BackgroundTasks` is built on it). A clone is the same hold. When the last clone is dropped
/// the tasks are released.
///
/// ```standalone_crate
/// use taskflow::{TaskManager, TaskStatus};
///
/// #[taskflow::task]
/// async fn send_invoice(order: i64) -> Result<String, String> {
///     Ok(format!("invoice of order {order}"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let tasks = TaskManager::builder().start().await?;
/// let hold = tasks.hold();
/// let invoice = hold.add_task(send_invoice, (42,)).await?; // stored, and held
/// // ... write the order to another database and commit ...
/// hold.release(); // now it runs
/// assert_eq!(invoice.wait().await?, "invoice of order 42");
///
/// let hold = tasks.hold();
/// let invoice = hold.add_task(send_invoice, (43,)).await?;
/// // ... the other database refuses the order ...
/// assert_eq!(hold.cancel("rolled back").await?, 1); // stored: it will never run
/// let record = tasks.get(invoice.id()).await?.expect("it is kept for its retention");
/// assert_eq!((record.status, record.error.as_deref()), (TaskStatus::Cancelled, Some("rolled back")));
/// # Ok(())
/// # }
/// ```
///
/// # What is held
///
/// An add is held if it is awaited before the hold ends. A hold ends once; an add after that runs like any other. These
/// adds are never held: `eager` ones, those `within_sqlite` or `within_postgres`, a duplicate of another task
/// ([`TaskHandle::is_duplicate`]), and the replacement of a task that waits ([`TaskHandle::is_replacement`]). To
/// [wait](TaskHandle::wait) for a held task releases it for good, and leaves the others held.
///
/// # How long it holds
///
/// As long as this process lives and renews its leases. If the process dies before it has released or cancelled, the
/// tasks run in another process: as soon as that one notices, and when the
/// [`lease`](crate::TaskManagerBuilder::lease) has ended at the latest. The same happens if the process stands still for
/// longer than the lease. [`shutdown`](TaskManager::shutdown) releases every open hold. So nothing that was accepted is
/// lost, but a task can run although its transaction was rolled back.
///
/// Therefore the task of an outbox first looks for its row in the other database, and does its work only if the row is
/// there. If the row is missing the task fails and is retried a few times, since the commit may still be on its way. The
/// example `outbox` shows it.
#[derive(Clone)]
pub struct Hold(Arc<HeldTasks>);

impl Hold {
    /// As [`TaskManager::add_task`]; the task is held.
    #[expect(clippy::needless_pass_by_value, reason = "a task's name is a value without size")]
    pub fn add_task<T: Task, P>(&self, task: impl TaskFn<P, Task = T>, args: T::Args) -> AddTask<T::Value> {
        let _ = task;
        AddTask::new(self.manager().clone(), Some(self.0.clone()), new_task::<T>(&args))
    }

    /// As [`TaskManager::add`]; the task is held.
    pub fn add<T: Standalone>(&self, call: Call<T>) -> AddTask<T::Value> {
        AddTask::new(self.manager().clone(), Some(self.0.clone()), call.into_new_task())
    }

    /// As [`TaskManager::add_all`]; the tasks are held, except `eager` ones.
    ///
    /// # Errors
    /// As there; then none of the tasks is stored.
    pub async fn add_all<I: IntoNewTask>(
        &self,
        items: impl IntoIterator<Item = I>,
    ) -> Result<Vec<TaskHandle<I::Value>>, AddError> {
        let tasks: Vec<_> = items.into_iter().map(IntoNewTask::into_new_task).collect();
        self.manager().add_new(tasks, Some(self.0.clone())).await
    }

    /// Releases its tasks: they run like any other, each at the time it was added for.
    ///
    /// This takes effect at once. Await the [`EndHold`] to know that it is stored.
    #[expect(clippy::must_use_candidate, reason = "it takes effect without being awaited")]
    pub fn release(&self) -> EndHold {
        self.0.end(HoldOutcome::Run)
    }

    /// Cancels its tasks with this reason, which is the error of their records. A longer reason than 64 KiB is cut off.
    ///
    /// This takes effect at once. Await the [`EndHold`] to know that it is stored: if the process dies before that, the
    /// tasks run.
    pub fn cancel(&self, reason: impl Into<String>) -> EndHold {
        self.0.end(HoldOutcome::Cancel { reason: shortened(reason.into()) })
    }

    pub(crate) fn manager(&self) -> &TaskManager {
        &self.0.manager
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("state", &*self.0.state.lock()).finish_non_exhaustive()
    }
}

/// The end of a [`Hold`]: decided, and on its way to the store, which is tried until it answers. To drop this undoes
/// nothing.
///
/// Awaiting it waits until the end is stored. It gives the number of tasks that were released, or cancelled, by this very
/// call: 0 if the hold had ended before. A task that was no longer held is not counted: it was waited for, it was
/// cancelled by its id, or it was released when the lease ended because this process stood still for too long.
///
/// # Errors
/// [`Error::ShutDown`] if the manager was shut down, or its runtime ended, before the store answered. Then held tasks may
/// run, also those that were to be cancelled.
#[derive(Debug)]
pub struct EndHold(Ending);

impl IntoFuture for EndHold {
    type Output = Result<usize, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.0.stored())
    }
}

/// The tasks of one hold. Adds on their way share it with the [`Hold`], so that it ends after the last of them.
#[derive(Debug)]
struct HeldTasks {
    manager: TaskManager,
    source: TaskSource,
    trace: Option<TraceContext>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// These are held.
    Open(Vec<RunRef>),
    /// It has ended. An add that was on its way then shares its verdict.
    Ended(HoldOutcome),
}

impl HeldTasks {
    /// Ends the hold. The first verdict counts.
    fn end(&self, outcome: HoldOutcome) -> EndHold {
        let mut state = self.state.lock();
        let held = match &mut *state {
            State::Open(held) => mem::take(held),
            State::Ended(_) => return self.end_tasks(Vec::new(), &outcome),
        };
        let ending = self.end_tasks(held, &outcome);
        *state = State::Ended(outcome);
        ending
    }

    fn end_tasks(&self, held: Vec<RunRef>, outcome: &HoldOutcome) -> EndHold {
        EndHold(self.manager.0.releaser.release(held, outcome))
    }
}

impl HoldOwner for HeldTasks {
    fn source(&self) -> TaskSource {
        self.source
    }

    fn trace(&self) -> Option<TraceContext> {
        self.trace.clone()
    }

    fn holds(&self) -> bool {
        matches!(*self.state.lock(), State::Open(_))
    }

    fn release(&self, id: TaskId) {
        if let State::Open(held) = &mut *self.state.lock() {
            let waited_for = held.extract_if(.., |hold| hold.id == id).collect();
            self.end_tasks(waited_for, &HoldOutcome::Run);
        }
    }

    fn held(&self, mut holds: Vec<RunRef>) {
        match &mut *self.state.lock() {
            State::Open(held) => held.append(&mut holds),
            State::Ended(outcome) => drop(self.end_tasks(holds, outcome)),
        }
    }
}

impl Drop for HeldTasks {
    fn drop(&mut self) {
        self.end(HoldOutcome::Run);
    }
}
