//! Failures, grouped by task and error.

mod fingerprint;

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::{Actor, AdminError, Console, grammar};
use crate::manager::TaskManager;
use crate::model::{Error, TaskFilter, TaskId, TaskRecord, TaskStatus, sealed};

use fingerprint::fingerprint;

/// The longest message of a group, in bytes.
const MAX_MESSAGE: usize = 500;

/// The statuses of tasks that ended badly, so that a person should look at them.
pub(crate) const BAD: [TaskStatus; 3] = [TaskStatus::Failed, TaskStatus::Interrupted, TaskStatus::Rejected];

/// Tasks of one name and status whose errors are the same apart from ids, numbers and the like.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailureGroup {
    /// The error with ids, numbers, quoted texts and addresses replaced.
    pub fingerprint: String,
    /// The name of the tasks.
    pub name: String,
    /// How they ended.
    pub status: TaskStatus,
    /// The first line of the error of the task that was added last, cut to 500 bytes.
    pub message: String,
    /// The longest text that the errors of the group share, for a filter; empty if it has fewer than 4 bytes, and
    /// for sealed errors.
    pub common: String,
    /// How many there are.
    pub count: u64,
    /// When the oldest of them ended.
    pub first: SystemTime,
    /// When the newest of them ended.
    pub last: SystemTime,
    /// The task that ended last.
    pub sample: TaskId,
    /// How many ended in each part of the window, the oldest part first.
    pub over_time: [u64; Self::PARTS],
}

/// The groups of failures, those with most tasks first.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Failures {
    /// The groups.
    pub groups: Vec<FailureGroup>,
    /// How many tasks were examined.
    pub looked_at: usize,
    /// Whether there are older tasks, which were not examined.
    pub is_cut: bool,
}

impl Failures {
    /// How many tasks that ended badly are examined, at most.
    pub const MAX_LOOKED_AT: usize = 5_000;
}

/// Groups the newest matching tasks that ended badly. `window` is the time before `now` that
/// [`over_time`](FailureGroup::over_time) covers.
///
/// # Errors
/// When the store fails.
pub(crate) async fn read(
    tasks: &TaskManager,
    mut filter: TaskFilter,
    window: Duration,
    now: SystemTime,
) -> Result<Failures, Error> {
    filter.statuses = BAD.to_vec();
    filter = filter.limit(TaskFilter::MAX_LIMIT);
    let mut found = Failures::default();
    let mut by_key: HashMap<(String, TaskStatus, String), usize> = HashMap::new();
    loop {
        let page = tasks.list_outlines(&filter).await?;
        for record in &page.items {
            // All errors that are sealed with one key are shown as the same text.
            let error = &sealed::shown(record.error.as_deref().unwrap_or_default());
            let key = (record.name.clone(), record.status, fingerprint(error));
            let at = *by_key.entry(key).or_insert_with_key(|(_, _, print)| {
                found.groups.push(FailureGroup::new(record, error, print));
                found.groups.len() - 1
            });
            found.groups[at].add(record, window, now);
        }
        found.looked_at += page.items.len();
        // A short page has examined 20,000 tasks: the search ends there.
        let is_full = page.items.len() >= filter.limit;
        match page.next {
            Some(next) if found.looked_at < Failures::MAX_LOOKED_AT && is_full => filter.after = Some(next),
            next => {
                found.is_cut = next.is_some();
                break;
            }
        }
    }
    found.groups.sort_by(|a, b| b.count.cmp(&a.count).then(b.last.cmp(&a.last)));
    Ok(found)
}

impl Console {
    /// Groups the newest failed, interrupted and rejected tasks that match the filter and that this actor may see. `window` is
    /// the time until now that [`over_time`](FailureGroup::over_time) divides. At most [`Failures::MAX_LOOKED_AT`] tasks are
    /// examined.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn failures(
        &self,
        actor: &Actor,
        filter: TaskFilter,
        window: Duration,
    ) -> Result<Failures, AdminError> {
        Ok(read(self.tasks(), actor.narrow(filter), window, self.now()).await?)
    }
}

impl FailureGroup {
    /// Into how many parts the window is divided.
    pub const PARTS: usize = 24;

    /// The text of a filter that selects the group. It may also select other tasks, if their errors contain the same words.
    #[must_use]
    pub fn filter(&self) -> String {
        let mut words = vec![("status", self.status.as_str()), ("name", self.name.as_str())];
        words.extend(Some(("error", self.common.as_str())).filter(|(_, common)| !common.is_empty()));
        grammar::text(words)
    }

    fn new(record: &TaskRecord, error: &str, print: &str) -> Self {
        let at = ended(record);
        let line = error.lines().next().unwrap_or_default();
        let is_sealed = record.error.as_deref().is_some_and(sealed::is_sealed);
        Self {
            fingerprint: print.to_owned(),
            name: record.name.clone(),
            status: record.status,
            message: line[..line.floor_char_boundary(MAX_MESSAGE)].to_owned(),
            // No record contains the text that stands for a sealed error, so a filter with it would find nothing.
            common: if is_sealed { String::new() } else { common(error, print) },
            count: 0,
            first: at,
            last: at,
            sample: record.id,
            over_time: [0; Self::PARTS],
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
            let last = Self::PARTS - 1;
            self.over_time[last - ((age * Self::PARTS as f64) as usize).min(last)] += 1;
        }
    }
}

fn ended(record: &TaskRecord) -> SystemTime {
    record.finished_at.unwrap_or(record.created_at)
}

/// The longest part of the fingerprint, between two replaced parts, that the error also contains.
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
