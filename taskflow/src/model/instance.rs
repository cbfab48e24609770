//! Processes: the instances that use the store, the health of this one, and the report of its shutdown.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{InstanceId, time};

/// One process that uses the store, as [`TaskManager::instances`](crate::TaskManager::instances) shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstanceInfo {
    /// The id of this start of the process.
    pub id: InstanceId,
    /// The host name of its machine.
    pub host: String,
    /// Its process id on that machine.
    pub pid: u32,
    /// The version of taskflow it was built with.
    pub version: String,
    /// Whether it runs tasks. If not, it only adds and administers them.
    pub runs: bool,
    /// The names of the schedules that its program declares and that tick in it.
    pub schedules: Vec<String>,
    /// When it started, by the store's clock.
    #[serde(with = "time::rfc3339_serde")]
    pub started_at: SystemTime,
    /// When it last renewed its leases, or when it started.
    #[serde(with = "time::rfc3339_serde")]
    pub seen_at: SystemTime,
    /// The number of tasks that it runs now.
    pub running: u64,
}

impl InstanceInfo {
    /// This process, started now.
    #[must_use]
    pub fn of_this_process(runs: bool) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the store sets both instants by its own clock")]
        let now = SystemTime::now();
        Self {
            id: InstanceId::new(),
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            runs,
            schedules: Vec::new(),
            started_at: now,
            seen_at: now,
            running: 0,
        }
    }
}

/// The health of this process and its store. See [`TaskManager::health`](crate::TaskManager::health).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// Since when the store cannot be reached or refuses writes; `None` while the store works. Only a write that succeeds
    /// resets it, because a store that refuses writes (out of memory, a replica, a full disk) still answers reads. In a process
    /// that only [views](crate::TaskManagerBuilder::view), a read that succeeds resets it too.
    #[serde(with = "time::rfc3339_option")]
    pub degraded_since: Option<SystemTime>,
    /// The store's last error since `degraded_since`.
    pub reason: Option<String>,
    /// Writes that the store dropped because their run had lost its lease.
    pub stale_writes: u64,
    /// Runs of this process that lost their lease.
    pub lost_leases: u64,
    /// Calls to the store that failed.
    pub store_errors: u64,
    /// How often a part of the engine panicked and was restarted. The process keeps working, but this is a bug: report
    /// [`last_engine_panic`](Self::last_engine_panic), or fix your log layer if the log layer panicked. Panics of tasks do not
    /// count here; a panic of your own [`Store`](crate::Store) counts as a store error.
    pub engine_restarts: u64,
    /// The message and source location of the last engine panic.
    pub last_engine_panic: Option<String>,
    /// The ids of keys that this process needed to open a task, and did not have: at most 32. A task sealed with one of them
    /// fails: add the key to the ring, then retry the task.
    pub missing_keys: Vec<String>,
    /// Tasks that are claimed and not yet finished in the store: running tasks, tasks with an outcome that is being written,
    /// and prefetched tasks that wait for a slot.
    pub claimed: u64,
    /// Tasks that are running now.
    pub running: u64,
    /// Events that were dropped because the [observers](crate::observe::Observer) of this process were too slow for them.
    #[serde(default)]
    pub dropped_events: u64,
}

impl Health {
    /// Whether the store can be reached and accepts writes.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.degraded_since.is_none()
    }
}

/// What happened to the tasks of this process when [`TaskManager::shutdown`](crate::TaskManager::shutdown) was called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Tasks whose run ended by itself, timed out or was cancelled.
    pub finished: usize,
    /// Tasks that went back to the queue; the attempt does not count. They had not started, or were interrupted and may run
    /// again.
    pub handed_back: usize,
    /// Tasks that were interrupted and may not run twice.
    pub interrupted: usize,
    /// Tasks that did not stop when they were asked to: synchronous tasks that have not returned, and async tasks that block
    /// their thread. They keep their lease until they return or the process exits.
    pub abandoned: usize,
    /// Tasks that ended, but their outcome was not stored in time. It is stored as soon as the store answers, if the process
    /// still lives. Otherwise the runs are lost with the process: tasks that may run again do so, the others become
    /// `interrupted`.
    pub unwritten: usize,
}
