//! A manager's start and end.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::TaskManagerBuilder;
use crate::engine::adder::Adder;
use crate::engine::core::Core;
use crate::engine::dispatcher;
use crate::engine::runner::Runner;
use crate::engine::shutdown;
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
    #[cfg(feature = "axum")]
    pub(super) releaser: Arc<crate::engine::release::Releaser>,
    pub(super) runner: Option<Arc<Runner>>,
    dispatcher: Mutex<Option<JoinHandle<()>>>,
}

impl TaskManager {
    /// A manager that is to be configured: its store, what tasks need, its queues.
    pub fn builder() -> TaskManagerBuilder {
        TaskManagerBuilder::default()
    }

    pub(super) fn new(core: Arc<Core>, runner: Option<Arc<Runner>>) -> Self {
        let adder = Adder::new(core.clone(), runner.clone());
        #[cfg(feature = "axum")]
        let releaser = crate::engine::release::Releaser::new(core.clone(), runner.clone());
        Self(Arc::new(Inner {
            #[cfg(feature = "axum")]
            releaser,
            core,
            adder,
            runner,
            dispatcher: Mutex::new(None),
        }))
    }

    /// Begins to claim and run.
    pub(super) fn dispatch(&self, runner: &Arc<Runner>) {
        let dispatcher = runner.core.runtime.spawn(dispatcher::dispatch(runner.clone()));
        *self.0.dispatcher.lock() = Some(dispatcher);
        runner.may_have_work();
    }

    /// Stops in order: claims no more, waits until `deadline` from now for what runs, cuts the rest short (what may
    /// run again goes back to the queue, uncounted, everything else is `interrupted`), and writes how everything ended.
    /// Adds are taken until then and refused after.
    ///
    /// A synchronous task that ignores the request to stop is *abandoned*: it keeps its lease until the process is
    /// gone, and does not keep `main` from returning.
    ///
    /// # Errors
    /// [`Error::ShutDown`](crate::Error::ShutDown) when this manager has been shut down before.
    pub async fn shutdown(&self, deadline: Duration) -> Result<ShutdownReport, crate::Error> {
        let dispatcher = self.0.dispatcher.lock().take();
        if dispatcher.is_none() && self.0.runner.is_some() || self.0.core.is_closed() {
            return Err(crate::Error::ShutDown);
        }
        // It goes on when this future is dropped: half a shutdown would be worse than either.
        let (core, runner) = (self.0.core.clone(), self.0.runner.clone());
        let ending = self.0.core.runtime.spawn(async move {
            let report = shutdown::shut_down(core, runner, deadline).await;
            if let Some(dispatcher) = dispatcher
                && report.abandoned == 0
            {
                // It has nothing left to write and ends by itself.
                let _ = dispatcher.await;
            }
            report
        });
        ending.await.map_err(|_| crate::Error::ShutDown)
    }

    /// What ends the holds of web requests.
    #[cfg(feature = "axum")]
    pub(crate) fn releaser(&self) -> &Arc<crate::engine::release::Releaser> {
        &self.0.releaser
    }

    pub(super) fn downgrade(&self) -> WeakManager {
        WeakManager(Arc::downgrade(&self.0))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.core.is_closed() && self.dispatcher.lock().take().is_some() | self.runner.is_none() {
            let (core, runner) = (self.core.clone(), self.runner.clone());
            self.core.runtime.spawn(shutdown::shut_down(core, runner, Duration::ZERO));
        }
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
            .field("runs", &self.0.runner.is_some())
            .finish_non_exhaustive()
    }
}
