use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::QueueView;
use crate::model::{Counts, Health, QueueInfo, time};

/// The state of everything.
#[derive(Debug, Serialize)]
pub struct OverviewView {
    counts: CountsWithTotal,
    waiting: u64,
    scheduled: u64,
    #[serde(with = "time::seconds_option")]
    oldest_waiting: Option<Duration>,
    finished_last_minute: u64,
    queues: Vec<QueueView>,
    instances: Instances,
    health: Health,
    #[serde(with = "time::rfc3339_serde")]
    taken_at: SystemTime,
}

#[derive(Debug, Serialize)]
struct CountsWithTotal {
    #[serde(flatten)]
    counts: Counts,
    total: u64,
    /// Whether the counts are exact. If not, there may be more tasks.
    exact: bool,
}

#[derive(Debug, Serialize)]
struct Instances {
    live: usize,
    running: u64,
}

impl OverviewView {
    /// The state at `taken_at`. `live` is the number of live processes, and `running` the number of tasks that they run.
    #[must_use]
    pub fn of(
        counts: Counts,
        exact: bool,
        queues: Vec<QueueInfo>,
        (live, running): (usize, u64),
        health: Health,
        taken_at: SystemTime,
    ) -> Self {
        let sum = |of: fn(&QueueInfo) -> u64| queues.iter().map(of).sum();
        Self {
            waiting: sum(QueueInfo::waiting),
            scheduled: sum(|queue| queue.scheduled),
            oldest_waiting: queues.iter().filter_map(|queue| queue.oldest_waiting).max(),
            finished_last_minute: sum(|queue| queue.finished_last_minute),
            counts: CountsWithTotal { total: counts.total(), counts, exact },
            instances: Instances { live, running },
            queues: QueueView::each(queues),
            health,
            taken_at,
        }
    }
}
