//! Processes: who is there, how this one is, and what its shutdown left.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{InstanceId, time};

/// One process that uses the store, as [`TaskManager::instances`](crate::TaskManager::instances) shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstanceInfo {
    /// The identity of this start of the process.
    pub id: InstanceId,
    /// The name of its machine.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// The version of taskflow it was built with.
    pub version: String,
    /// Whether it runs tasks, or only adds and administers.
    pub runs: bool,
    /// The schedules that tick in it.
    pub schedules: Vec<String>,
    /// When it started, by the store's clock.
    #[serde(with = "time::rfc3339_serde")]
    pub started_at: SystemTime,
    /// When it last renewed its leases.
    #[serde(with = "time::rfc3339_serde")]
    pub seen_at: SystemTime,
    /// How many tasks it runs.
    pub running: u64,
}

impl InstanceInfo {
    /// This process, started now.
    #[must_use]
    pub fn of_this_process(runs: bool) -> Self {
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

/// How this process and its store are. See [`TaskManager::health`](crate::TaskManager::health).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// Since when the store cannot be reached or refuses writes; `None` while all is well. It ends with a write that
    /// succeeds: a store that refuses writes (out of memory, a replica, a full disk) still answers reads.
    #[serde(with = "time::rfc3339_option")]
    pub degraded_since: Option<SystemTime>,
    /// The store's last error since then.
    pub reason: Option<String>,
    /// Writes of runs that had lost their lease; each was dropped.
    pub stale_writes: u64,
    /// Runs of this process whose lease was lost.
    pub lost_leases: u64,
    /// Calls to the store that failed.
    pub store_errors: u64,
    /// How often a part of the engine panicked and was started again. Everything goes on, but something is wrong: report
    /// [`last_engine_panic`](Self::last_engine_panic), or mend your log layer if that is what panicked. A panic of a task
    /// does not count here; one of a [`Store`](crate::Store) of your own counts as a store error.
    pub engine_restarts: u64,
    /// The last of these panics, with its place.
    pub last_engine_panic: Option<String>,
    /// Claimed and not yet finished in the store: running ones, those whose outcome is being written, and prefetched ones
    /// that wait for a slot.
    pub claimed: u64,
    /// Running now.
    pub running: u64,
}

impl Health {
    /// Whether the store can be reached and takes writes.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.degraded_since.is_none()
    }
}

/// What became of the tasks that were here when [`TaskManager::shutdown`](crate::TaskManager::shutdown) was called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Ended by themselves before the deadline.
    pub finished: usize,
    /// Went back to the queue, uncounted: not started yet, or cut short and allowed to run again.
    pub handed_back: usize,
    /// Cut short, and not allowed to run twice.
    pub interrupted: usize,
    /// Ignored the request to stop: synchronous tasks that never ask, and async ones that block their thread. They keep
    /// their lease until they return or the process is gone.
    pub abandoned: usize,
    /// Ended, but the store could not be told in time. It is told as soon as it answers, if the process lives until then.
    /// Otherwise they count as lost with the process: they run again if they may, and are `interrupted` if not.
    pub unwritten: usize,
}
