//! Lets things go wrong in a test: the store, the next attempt of a task, and workers.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a task is named by its function, which is passed by value everywhere"
)]

use std::fmt;
use std::sync::Arc;

use super::Length;
use super::fault::Fault;
use super::tasks::TestTasks;
use crate::engine::staged::{Gate, Scene};
use crate::model::ShutdownReport;
use crate::task::{Task, TaskFn};

impl TestTasks {
    /// Gives the store a fault. See [`Fault`].
    pub fn fault(&self, fault: Fault) {
        self.faulty.fault(fault);
    }

    /// Clears all faults of the store.
    pub fn back(&self) {
        self.faulty.back();
    }

    /// The next attempt of this task fails with that error; its body does not run. The options of the task decide about a
    /// retry, as for an error of the body.
    pub fn fail_next<P, T, V, E>(&self, task: impl TaskFn<P, Task = T>, error: E)
    where
        T: Task<Output = Result<V, E>>,
    {
        let _ = task;
        self.stage::<T>(Scene::End(T::outcome(Err(error))));
    }

    /// The next attempt of this task panics with that message; its body does not run.
    pub fn panic_next<P, T: Task>(&self, task: impl TaskFn<P, Task = T>, message: impl Into<String>) {
        let _ = task;
        self.stage::<T>(Scene::Panic(message.into()));
    }

    /// The next attempt of this task does not end by itself; its body does not run. Its timeout, a cancel, a shutdown or the
    /// end of its lease ends it.
    pub fn hang_next<P, T: Task>(&self, task: impl TaskFn<P, Task = T>) {
        let _ = task;
        self.stage::<T>(Scene::Hang);
    }

    /// The next attempt of this task begins, and waits before its body until the test opens the gate.
    #[must_use = "the gate opens when it is dropped"]
    pub fn hold_next<P, T: Task>(&self, task: impl TaskFn<P, Task = T>) -> Held {
        let _ = task;
        let gate = Gate::new();
        self.stage::<T>(Scene::Hold(gate.clone()));
        Held(gate)
    }

    fn stage<T: Task>(&self, scene: Scene) {
        self.staged.add(T::DESCRIPTOR.config().name, scene);
    }

    /// Starts one more worker, a process of its own.
    ///
    /// # Panics
    /// If it cannot start, for example because the store is away.
    pub async fn second_worker(&self) {
        if let Err(error) = self.carried(self.start_worker()).await {
            panic!("the worker cannot start: {error}");
        }
        self.clock.quiet().await;
    }

    /// The number of workers that were started and neither killed nor stopped.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The number of [`workers`](Self::workers) that are not frozen.
    #[must_use]
    pub fn awake_workers(&self) -> usize {
        self.workers.awake()
    }

    /// Kills the oldest worker as `kill -9` does: it hands nothing back, and its leases must run out.
    ///
    /// # Panics
    /// If there is no worker.
    pub async fn kill_worker(&self) {
        assert!(self.workers.kill(), "there is no worker to kill; `second_worker` starts one");
        self.clock.quiet().await;
    }

    /// Shuts down the oldest worker that is not frozen, as a deploy does. Its running tasks have until `timeout` to end, and
    /// the clock of the test moves meanwhile.
    ///
    /// # Panics
    /// If there is no such worker.
    pub async fn stop_worker(&self, timeout: impl Length) -> ShutdownReport {
        let Some(manager) = self.workers.take_awake() else {
            panic!("there is no worker to stop; `second_worker` starts one")
        };
        let report = self.carried(manager.shutdown(timeout.length())).await;
        self.clock.quiet().await;
        // A shutdown fails only if its runtime ends first, and that is the test's own.
        report.unwrap_or_default()
    }

    /// Freezes the oldest worker that is not frozen, as a long pause of its machine does: it renews no lease and ends no run.
    ///
    /// # Panics
    /// If there is no such worker.
    pub async fn freeze_worker(&self) {
        assert!(self.workers.freeze(), "there is no worker to freeze; `second_worker` starts one");
        self.clock.quiet().await;
    }

    /// Lets all frozen workers go on. The store must refuse the results of runs that it has recovered meanwhile.
    pub async fn thaw(&self) {
        self.workers.thaw();
        self.clock.quiet().await;
    }

    /// Ends all leases now, and recovers the tasks that lose their run or their hold by this.
    pub async fn expire_leases(&self) {
        self.store.memory.expire_leases();
        self.carried(self.manager.recover()).await;
        self.clock.quiet().await;
    }
}

/// A body that waits for the test. Dropping it lets the body go on.
pub struct Held(Arc<Gate>);

impl Held {
    /// Waits until the attempt has begun.
    pub async fn reached(&self) {
        self.0.reached().await;
    }

    /// Lets the body go on.
    pub fn open(&self) {
        self.0.open();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}
