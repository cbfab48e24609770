//! A manager's start and end.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::engine::adder::Adder;
use crate::engine::core::Core;
use crate::engine::dispatcher;
use crate::engine::release::Releaser;
use crate::engine::shutdown::Ending;
use crate::engine::worker::Worker;
use crate::model::ShutdownReport;

/// The handle through which a program adds tasks, looks at them, and acts on them. A clone is cheap and the same
/// manager.
///
/// ```standalone_crate
/// use std::time::Duration;
/// use taskflow::TaskManager;
///
/// #[taskflow::task(retries = 3)]
/// async fn greet(name: String) -> Result<String, std::io::Error> {
///     Ok(format!("hello, {name}"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = TaskManager::builder().store("memory:").start().await?;
///
/// let handle = tasks.add_task(greet, ("Ada".to_owned(),)).priority(5).await?;
/// assert_eq!(handle.wait().await?, "hello, Ada");
///
/// tasks.shutdown(Duration::from_secs(5)).await?;
/// # Ok(())
/// # }
/// ```
///
/// When the last clone is dropped without [`shutdown`](Self::shutdown), the manager stops as after a shutdown without
/// patience: what runs is cut short, and goes back to the queue if it may run again.
#[derive(Clone)]
pub struct TaskManager(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) core: Arc<Core>,
    pub(super) adder: Arc<Adder>,
    pub(super) releaser: Arc<Releaser>,
    pub(super) worker: Option<Arc<Worker>>,
    /// What the shutdown reports, once one has begun.
    report: Mutex<Option<watch::Receiver<Option<ShutdownReport>>>>,
}

impl TaskManager {
    pub(super) fn new(core: Arc<Core>, worker: Option<Arc<Worker>>) -> Self {
        let adder = Adder::new(core.clone(), worker.clone());
        let releaser = Releaser::new(core.clone(), worker.clone());
        Self(Arc::new(Inner { core, adder, releaser, worker, report: Mutex::new(None) }))
    }

    /// Begins to claim and run.
    pub(super) fn dispatch(&self, worker: &Arc<Worker>) {
        worker.core.runtime.spawn(dispatcher::dispatch(worker.clone()));
        worker.may_have_work();
    }

    /// Stops in order: claims no more, waits as long as `timeout` for what runs, and asks the rest to stop. An async task
    /// that listens has [`cancel_grace`](crate::TaskManagerBuilder::cancel_grace) to clean up, any other is dropped at its next
    /// await. What may run again goes back to the queue, uncounted; everything else is `interrupted`. Then it writes how
    /// everything ended, the adds that were accepted and what became of held tasks, and leaves the store. Adds are taken
    /// until then and refused after. It returns within `timeout`, `cancel_grace` and 2 s.
    ///
    /// A synchronous task that ignores the request to stop is *abandoned*: it keeps its lease until it returns or the process
    /// is gone, and does not keep `main` from returning.
    ///
    /// It goes on when this future is dropped. A second call, also from another clone, waits for the first and gets the same
    /// report.
    ///
    /// # Errors
    /// [`Error::ShutDown`](crate::Error::ShutDown) when the manager's runtime ended before the shutdown did.
    pub async fn shutdown(&self, timeout: Duration) -> Result<ShutdownReport, crate::Error> {
        let mut report = self.0.end(timeout);
        // Whoever ends with the runtime sends nothing any more.
        let ended = tokio::select! {
            biased;
            ended = report.wait_for(Option::is_some) => ended.ok().and_then(|report| report.clone()),
            () = self.0.core.orphaned.cancelled() => None,
        };
        ended.ok_or(crate::Error::ShutDown)
    }

    pub(super) fn downgrade(&self) -> WeakManager {
        WeakManager(Arc::downgrade(&self.0))
    }
}

impl Inner {
    /// Begins the shutdown, unless one has begun. Half of one would be worse than none, so nobody need wait for it.
    fn end(&self, timeout: Duration) -> watch::Receiver<Option<ShutdownReport>> {
        let mut report = self.report.lock();
        if let Some(report) = &*report {
            return report.clone();
        }
        let (reported, receiver) = watch::channel(None);
        *report = Some(receiver.clone());
        drop(report);
        let ending = Ending {
            core: self.core.clone(),
            worker: self.worker.clone(),
            adder: self.adder.clone(),
            releaser: self.releaser.clone(),
        };
        ending.begin(timeout);
        self.core.runtime.spawn(async move {
            let report = ending.shut_down(timeout).await;
            reported.send_replace(Some(report));
        });
        receiver
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// What the engine may hold of the manager that holds it.
#[derive(Clone)]
pub(super) struct WeakManager(Weak<Inner>);

impl WeakManager {
    pub(super) fn upgrade(&self) -> Option<TaskManager> {
        self.0.upgrade().map(TaskManager)
    }
}

impl std::fmt::Debug for TaskManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskManager")
            .field("store", &self.0.core.store.location())
            .field("instance", &self.0.core.instance.id)
            .field("runs", &self.0.worker.is_some())
            .finish_non_exhaustive()
    }
}
