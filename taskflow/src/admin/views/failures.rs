use std::time::SystemTime;

use serde::Serialize;

use crate::admin::{FailureGroup, Failures};
use crate::model::{TaskId, TaskStatus, time};

/// Failures, grouped by task and error.
#[derive(Debug, Serialize)]
pub struct FailuresView {
    items: Vec<GroupView>,
    /// How many tasks were examined.
    looked_at: usize,
    /// Whether there are older tasks, which were not examined.
    cut: bool,
}

#[derive(Debug, Serialize)]
struct GroupView {
    fingerprint: String,
    name: String,
    status: TaskStatus,
    message: String,
    count: u64,
    #[serde(with = "time::rfc3339_serde")]
    first: SystemTime,
    #[serde(with = "time::rfc3339_serde")]
    last: SystemTime,
    sample_id: TaskId,
    /// How many ended in each 24th of the time since `since`, or of the last 24 hours; the oldest part first.
    over_time: [u64; FailureGroup::PARTS],
    /// A filter that selects the group. It may also select other tasks, if their errors contain the same words.
    filter: String,
}

impl FailuresView {
    /// The view of these groups.
    #[must_use]
    pub fn of(found: &Failures) -> Self {
        let items = found.groups.iter().map(|group| GroupView {
            fingerprint: group.fingerprint.clone(),
            name: group.name.clone(),
            status: group.status,
            message: group.message.clone(),
            count: group.count,
            first: group.first,
            last: group.last,
            sample_id: group.sample,
            over_time: group.over_time,
            filter: group.filter(),
        });
        Self { items: items.collect(), looked_at: found.looked_at, cut: found.is_cut }
    }
}
