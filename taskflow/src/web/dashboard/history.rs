//! The statistics of the last hour and day, as charts.

use std::time::{Duration, SystemTime};

use super::chart::Throughput;
use crate::manager::TaskManager;
use crate::web::call::Call;

/// Ended tasks per minute of each queue.
#[derive(Debug, Default)]
pub(crate) struct ByQueue(Vec<(String, Vec<u64>)>);

impl ByQueue {
    /// The points of the line of a queue; empty without statistics.
    pub(crate) fn line(&self, queue: &str) -> String {
        let found = self.0.iter().find(|(name, _)| name == queue);
        found.map(|(_, values)| super::chart::sparkline(values)).unwrap_or_default()
    }
}

/// Ended tasks per minute of each queue, in the last hour.
pub(crate) async fn by_queue(_tasks: &TaskManager, _now: SystemTime) -> ByQueue {
    ByQueue::default()
}

/// The chart of the last hour, of one task or of all; `None` without statistics.
pub(crate) async fn throughput(_call: &Call, _now: SystemTime, _name: Option<&str>) -> Option<Throughput> {
    None
}

/// The run times of a task in the last day, with one run marked, and a sentence about them; `None` without statistics.
pub(crate) async fn run_times(
    _call: &Call,
    _name: &str,
    _run: Option<Duration>,
) -> (Option<super::chart::Histogram>, String) {
    (None, String::new())
}

/// What one task did in the last day.
#[derive(Clone, Debug, Default)]
pub(crate) struct Day {
    pub(crate) runs: u64,
    pub(crate) failed: u64,
    pub(crate) p50: Option<Duration>,
    pub(crate) p95: Option<Duration>,
    pub(crate) wait: Option<Duration>,
}

impl Day {
    /// The share of runs that did not succeed.
    pub(crate) fn failed_share(&self) -> String {
        super::words::percent(self.failed, self.runs)
    }
}

/// The last day of each task.
#[derive(Debug, Default)]
pub(crate) struct ByName(std::collections::BTreeMap<String, Day>);

impl ByName {
    pub(crate) fn of(&self, name: &str) -> Option<Day> {
        self.0.get(name).cloned()
    }
}

/// The last day of each task; `None` without statistics.
pub(crate) async fn by_name(_call: &Call) -> Option<ByName> {
    None
}
