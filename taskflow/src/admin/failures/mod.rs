//! Failures, grouped by task and error.

mod fingerprint;

use std::collections::HashMap;
use std::time::SystemTime;

use crate::manager::TaskManager;
use crate::model::{Error, TaskFilter, TaskId, TaskRecord, TaskStatus};

use fingerprint::fingerprint;

/// The most bad endings that are examined.
const LOOKED_AT: usize = 5_000;

/// The longest message of a group, in bytes.
const MAX_MESSAGE: usize = 500;

/// The statuses of tasks that wait for a person.
const BAD: [TaskStatus; 3] = [TaskStatus::Failed, TaskStatus::Interrupted, TaskStatus::Rejected];

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
}

/// The groups, those with most tasks first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    pub(crate) groups: Vec<Group>,
    pub(crate) looked_at: usize,
    /// Whether older ones were not examined.
    pub(crate) is_cut: bool,
}

/// Groups the newest bad endings that match the filter.
///
/// # Errors
/// When the store fails.
pub(crate) async fn read(tasks: &TaskManager, mut filter: TaskFilter) -> Result<Groups, Error> {
    filter.statuses = BAD.to_vec();
    filter = filter.limit(TaskFilter::MAX_LIMIT);
    let mut found = Groups::default();
    let mut by_key: HashMap<(String, TaskStatus, String), usize> = HashMap::new();
    let mut pages = 0;
    loop {
        let page = tasks.list_outlines(&filter).await?;
        for record in &page.items {
            let error = record.error.as_deref().unwrap_or_default();
            let key = (record.name.clone(), record.status, fingerprint(error));
            let at = *by_key.entry(key).or_insert_with_key(|(_, _, print)| {
                found.groups.push(Group::new(record, error, print));
                found.groups.len() - 1
            });
            found.groups[at].add(record);
        }
        found.looked_at += page.items.len();
        pages += 1;
        match page.next {
            // A page of a fine filter examines 20,000 tasks and may be short.
            Some(next) if found.looked_at < LOOKED_AT && (pages == 1 || !filter.has_rest()) => {
                filter.after = Some(next);
            }
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
        }
    }

    fn add(&mut self, record: &TaskRecord) {
        let at = ended(record);
        self.count += 1;
        self.first = self.first.min(at);
        if at >= self.last {
            (self.last, self.sample) = (at, record.id);
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
