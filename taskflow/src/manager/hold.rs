//! Holds: tasks that are stored at once, and run only when their caller releases them.

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
    /// Makes a [`Hold`]: tasks that are added through it are stored at once and run when it is released.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.hold_as(TaskSource::Manager, None)
    }

    /// A hold whose tasks get this source and this trace.
    pub(crate) fn hold_as(&self, source: TaskSource, trace: Option<TraceContext>) -> Hold {
        let state = Mutex::new(State::Open(Vec::new()));
        Hold(Arc::new(HeldTasks { manager: self.clone(), source, trace, state }))
    }
}

/// Stores tasks at once and holds them: no process runs them until [`release`](Self::release), and
/// [`cancel`](Self::cancel) cancels them. Made by [`TaskManager::hold`].
///
/// Use it to tie tasks to something that taskflow does not see: a transaction in another database, or the response of a web
/// framework other than axum (for axum there is `BackgroundTasks`, which is built on it). A clone is the same hold. When the
/// last clone is dropped, the tasks are released.
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
/// An add is held if it is awaited before the hold ends. A hold ends only once, and a task added after that runs like any
/// other. These adds are never held: `eager` ones, those `within_sqlite` or `within_postgres`, a duplicate of another task
/// ([`TaskHandle::is_duplicate`]), and the replacement of a waiting task ([`TaskHandle::is_replacement`]).
/// [Waiting](TaskHandle::wait) for a held task releases it for good; the other tasks stay held.
///
/// # How long it holds
///
/// It holds as long as this process lives and renews its leases. If the process dies before it has released or cancelled, the
/// tasks run in another process: as soon as that process notices the death, and at the latest when the
/// [`lease`](crate::TaskManagerBuilder::lease) has ended. The same happens if the process is suspended, or cannot reach the
/// store, for longer than the lease. [`shutdown`](TaskManager::shutdown) releases every open hold. So no accepted task is lost,
/// but a task can run although its transaction was rolled back.
///
/// Therefore a task that belongs to a transaction in another database should first look for a row of that transaction, and do
/// its work only if the row is there. If the row is missing, the task should fail and be retried a few times, because the
/// commit may still be on its way. The example `outbox` shows this.
#[derive(Clone)]
pub struct Hold(Arc<HeldTasks>);

impl Hold {
    /// Like [`TaskManager::add_task`]; the task is held.
    #[expect(clippy::needless_pass_by_value, reason = "a task's name is a value without size")]
    pub fn add_task<T: Task, P>(&self, task: impl TaskFn<P, Task = T>, args: T::Args) -> AddTask<T::Value> {
        let _ = task;
        AddTask::new(self.manager().clone(), Some(self.0.clone()), new_task::<T>(&args))
    }

    /// Like [`TaskManager::add`]; the task is held.
    pub fn add<T: Standalone>(&self, call: Call<T>) -> AddTask<T::Value> {
        AddTask::new(self.manager().clone(), Some(self.0.clone()), call.into_new_task())
    }

    /// Like [`TaskManager::add_all`]; the tasks are held, except `eager` ones.
    ///
    /// # Errors
    /// As for [`TaskManager::add_all`]. After an error none of the tasks is stored.
    pub async fn add_all<I: IntoNewTask>(
        &self,
        items: impl IntoIterator<Item = I>,
    ) -> Result<Vec<TaskHandle<I::Value>>, AddError> {
        let tasks: Vec<_> = items.into_iter().map(IntoNewTask::into_new_task).collect();
        self.manager().add_new(tasks, Some(self.0.clone())).await
    }

    /// Releases its tasks: they run like any other, each at the time it was added for.
    ///
    /// The call alone releases them. Await the [`EndHold`] to know that the release has been stored.
    #[expect(clippy::must_use_candidate, reason = "it takes effect without being awaited")]
    pub fn release(&self) -> EndHold {
        self.0.end(HoldOutcome::Run)
    }

    /// Cancels its tasks with this reason, which becomes the error of their records. A reason longer than 64 KiB is cut off.
    ///
    /// The call alone cancels them. Await the [`EndHold`] to know that this has been stored: if the process dies before that,
    /// the tasks run.
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

/// The end of a [`Hold`], on its way to the store. The write is repeated until the store answers, even if this value is
/// dropped.
///
/// Awaiting it waits until the end is stored, and returns how many tasks this call released or cancelled: 0 if the hold had
/// ended before. A task that was no longer held is not counted: a caller waited for it, it was cancelled otherwise, or another
/// process released it because this process had not renewed its lease in time.
///
/// # Errors
/// [`Error::ShutDown`] if the manager was shut down, or its runtime ended, before the store answered. Then the held tasks may
/// run, even if they were to be cancelled.
#[derive(Debug)]
pub struct EndHold(Ending);

impl IntoFuture for EndHold {
    type Output = Result<usize, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.0.stored())
    }
}

/// The tasks of one hold. Adds in flight share it with the [`Hold`], so that dropping the hold ends it only after the last of
/// them.
#[derive(Debug)]
struct HeldTasks {
    manager: TaskManager,
    source: TaskSource,
    trace: Option<TraceContext>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// These tasks are held.
    Open(Vec<RunRef>),
    /// The hold has ended. An add that was in flight at that time gets the same outcome.
    Ended(HoldOutcome),
}

impl HeldTasks {
    /// Ends the hold. Only the first call decides the outcome.
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
