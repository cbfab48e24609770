//! Failures, grouped by task and error.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::fingerprint::fingerprint;
use super::words::{between, first_line};
use crate::manager::TaskManager;
use crate::model::{Error, TaskFilter, TaskId, TaskRecord, TaskStatus};
use crate::web::call::Call;

/// The most bad endings that are looked at.
pub(crate) const LOOKED_AT: usize = 5_000;

/// The statuses of tasks that wait for a person.
pub(crate) const BAD: [TaskStatus; 3] = [TaskStatus::Failed, TaskStatus::Interrupted, TaskStatus::Rejected];

/// How many parts the sparkline of a group has.
const PARTS: usize = 24;

/// Tasks of one name that ended with the same error, but for ids, numbers and the like.
#[derive(Clone, Debug)]
pub(crate) struct Group {
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
    pub(crate) over_time: [u64; PARTS],
}

/// The groups, those with most tasks first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    pub(crate) groups: Vec<Group>,
    pub(crate) looked_at: usize,
    /// Whether older ones were not looked at.
    pub(crate) is_cut: bool,
}

/// Groups the newest bad endings that match the filter and that the actor sees. Readers at the same time share a read.
///
/// # Errors
/// When the store fails.
pub(crate) async fn read(
    call: &Call,
    filter: TaskFilter,
    since: Option<Duration>,
    now: SystemTime,
) -> Result<Arc<Groups>, Error> {
    let filter = call.actor.narrow(filter);
    let key = format!("groups {since:?} {:?}", filter.queues);
    call.desk.live.shared(key, group(call.console().tasks(), filter, since, now)).await
}

async fn group(
    tasks: &TaskManager,
    mut filter: TaskFilter,
    since: Option<Duration>,
    now: SystemTime,
) -> Result<Groups, Error> {
    filter.statuses = BAD.to_vec();
    filter.finished_after = since.and_then(|since| now.checked_sub(since));
    filter = filter.limit(TaskFilter::MAX_LIMIT);
    let mut found = Groups::default();
    let mut by_key: HashMap<(String, TaskStatus, String), usize> = HashMap::new();
    let window = since.unwrap_or(Duration::from_secs(24 * 3600));
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
        match page.next {
            Some(next) if found.looked_at < LOOKED_AT => filter.after = Some(next),
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
        Self {
            name: record.name.clone(),
            status: record.status,
            message: first_line(error, 200),
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
        let age = between(at, now).as_secs_f64() / window.as_secs_f64().max(1.0);
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
