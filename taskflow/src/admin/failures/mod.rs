//! Failures, grouped by task and error.

mod fingerprint;

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::manager::TaskManager;
use crate::model::{Error, TaskFilter, TaskId, TaskRecord, TaskStatus};

use fingerprint::fingerprint;

/// The most bad endings that are examined.
pub(crate) const LOOKED_AT: usize = 5_000;

/// Into how many parts the window of a group is divided.
pub(crate) const PARTS: usize = 24;

/// The longest message of a group, in bytes.
const MAX_MESSAGE: usize = 500;

/// The statuses of tasks that wait for a person.
pub(crate) const BAD: [TaskStatus; 3] = [TaskStatus::Failed, TaskStatus::Interrupted, TaskStatus::Rejected];

/// Tasks of one name that ended with the same error, but for ids, numbers and the like.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) fingerprint: String,
    pub(crate) name: String,
    pub(crate) status: TaskStatus,
    /// The error of the newest task, its first line.
    pub(crate) message: String,
    /// A part of the error that all tasks of the group have, for a filter; empty if there is none that is long enough.
    pub(crate) common: String,
    pub(crate) count: u64,
    pub(crate) first: SystemTime,
    pub(crate) last: SystemTime,
    pub(crate) sample: TaskId,
    /// How many ended in each part of the window, the oldest part first.
    pub(crate) over_time: [u64; PARTS],
}

/// The groups, those with most tasks first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    pub(crate) groups: Vec<Group>,
    pub(crate) looked_at: usize,
    /// Whether older ones were not examined.
    pub(crate) is_cut: bool,
}

/// Groups the newest bad endings that match the filter. The window is the time before `now` that
/// [`over_time`](Group::over_time) covers.
///
/// # Errors
/// When the store fails.
pub(crate) async fn read(
    tasks: &TaskManager,
    mut filter: TaskFilter,
    window: Duration,
    now: SystemTime,
) -> Result<Groups, Error> {
    filter.statuses = BAD.to_vec();
    filter = filter.limit(TaskFilter::MAX_LIMIT);
    let mut found = Groups::default();
    let mut by_key: HashMap<(String, TaskStatus, String), usize> = HashMap::new();
    loop {
        let page = tasks.list_outlines(&filter).await?;
        for record in &page.items {
            let error = record.error.as_deref().unwrap_or_default();
            let key = (record.name.clone(), record.status, fingerprint(error));
            let at = *by_key.entry(key).or_insert_with_key(|(_, _, print)| {
                found.groups.push(Group::new(record, error, print));
                found.groups.len() - 1
            });
            found.groups[at].add(record, window, now);
        }
        found.looked_at += page.items.len();
        // A short page has examined 20,000 tasks: the search ends there.
        let is_full = page.items.len() >= filter.limit;
        match page.next {
            Some(next) if found.looked_at < LOOKED_AT && is_full => filter.after = Some(next),
            next => {
                found.is_cut = next.is_some();
                break;
            }
        }
    }
    found.groups.sort_by(|a, b| b.count.cmp(&a.count).then(b.last.cmp(&a.last)));
    Ok(found)
}

impl Group {
    fn new(record: &TaskRecord, error: &str, print: &str) -> Self {
        let at = ended(record);
        let line = error.lines().next().unwrap_or_default();
        Self {
            fingerprint: print.to_owned(),
            name: record.name.clone(),
            status: record.status,
            message: line[..line.floor_char_boundary(MAX_MESSAGE)].to_owned(),
            common: common(error, print),
            count: 0,
            first: at,
            last: at,
            sample: record.id,
            over_time: [0; PARTS],
        }
    }

    fn add(&mut self, record: &TaskRecord, window: Duration, now: SystemTime) {
        let at = ended(record);
        self.count += 1;
        self.first = self.first.min(at);
        if at >= self.last {
            (self.last, self.sample) = (at, record.id);
        }
        let age = now.duration_since(at).unwrap_or_default().as_secs_f64() / window.as_secs_f64().max(1.0);
        if age < 1.0 {
            self.over_time[PARTS - 1 - ((age * PARTS as f64) as usize).min(PARTS - 1)] += 1;
        }
    }
}

fn ended(record: &TaskRecord) -> SystemTime {
    record.finished_at.unwrap_or(record.created_at)
}

/// The longest part of the fingerprint between replaced parts that the error has too.
fn common(error: &str, print: &str) -> String {
    let parts = print.split('‹').map(|part| part.split_once('›').map_or(part, |(_, rest)| rest).trim());
    let whole = parts.filter(|part| part.len() >= 4 && error.contains(part));
    whole.max_by_key(|part| part.len()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_the_longest_part_that_its_errors_share() {
        for (error, part) in [
            ("connection refused by smtp.example.com:587", "connection refused by"),
            ("task 42 was not found in region 7", "was not found in region"),
            ("42", ""),
        ] {
            assert_eq!(common(error, &fingerprint(error)), part, "{error}");
        }
    }
}
