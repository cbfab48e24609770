//! [`TaskManager`] itself, and its shutdown.

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

/// The handle with which a program adds tasks, reads them, and controls them. Clones are cheap and share one manager.
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
/// When the last clone is dropped without [`shutdown`](Self::shutdown), the manager shuts down with a timeout of zero:
/// running tasks are cut short, and go back to the queue if they may run again.
#[derive(Clone)]
pub struct TaskManager(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) core: Arc<Core>,
    pub(super) adder: Arc<Adder>,
    pub(super) releaser: Arc<Releaser>,
    pub(super) worker: Option<Arc<Worker>>,
    /// The report of the shutdown, once one has begun.
    report: Mutex<Option<watch::Receiver<Option<ShutdownReport>>>>,
}

impl TaskManager {
    pub(super) fn new(core: Arc<Core>, worker: Option<Arc<Worker>>) -> Self {
        let adder = Adder::new(core.clone(), worker.clone());
        let releaser = Releaser::new(core.clone(), worker.clone());
        Self(Arc::new(Inner { core, adder, releaser, worker, report: Mutex::new(None) }))
    }

    /// Begins to claim and run tasks.
    pub(super) fn dispatch(&self, worker: &Arc<Worker>) {
        worker.core.spawn(dispatcher::dispatch(worker.clone(), self.0.releaser.clone()));
        worker.may_have_work();
    }

    /// Shuts the manager down, in this order:
    ///
    /// 1. It claims no more tasks, and waits up to `timeout` for the running ones.
    /// 2. It asks the rest to stop. An async task that checks for the request
    ///    ([`TaskContext::cancelled`](crate::TaskContext::cancelled)) has
    ///    [`cancel_grace`](crate::TaskManagerBuilder::cancel_grace) to clean up; any other is dropped at its next await. A
    ///    task that may run again goes back to the queue, and the run does not count as an attempt; all others become
    ///    `interrupted`.
    /// 3. It refuses further adds, which it has accepted until now. It stores the results, the accepted adds and the outcomes of
    ///    held tasks, and leaves the store.
    ///
    /// It returns within `timeout` + `cancel_grace` + 2 s.
    ///
    /// A synchronous task that ignores the request to stop is *abandoned*: it keeps its lease until it returns or the
    /// process exits, and does not keep `main` from returning.
    ///
    /// The shutdown continues if this future is dropped. A second call, even from another clone, waits for the first shutdown
    /// and returns the same report.
    ///
    /// # Errors
    /// [`Error::ShutDown`](crate::Error::ShutDown) when the manager's runtime ended before the shutdown was complete.
    pub async fn shutdown(&self, timeout: Duration) -> Result<ShutdownReport, crate::Error> {
        let mut report = self.0.end(timeout);
        // If the runtime ends, no report is ever sent.
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
    /// Begins the shutdown, unless one has begun. It runs as a separate tokio task, so that it completes even if no caller waits
    /// for it: half a shutdown would be worse than none.
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
        self.core.spawn(async move {
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

/// A weak reference to the manager, for the engine: a strong one would form a cycle.
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
