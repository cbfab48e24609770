//! Pages of records, newest first.
//!
//! Each way of finding tasks (a *source*) has an order or is small: tasks that ended badly are kept in the order of
//! their ids; what runs, and what is pending where that is not much, is looked through; everything else is read along
//! all ids. A look ends after [`ENOUGH`] tasks, so that it stops nobody else for long, and the next goes on from there.

use super::answer::List;
use super::script::Call;
use super::state::{STAGES, exact, pack_tag};
use crate::model::{Counts, Cursor, StoreError, TaskFilter, TaskId, TaskStatus, time};

/// Tasks that one script looks at along an order: some 5 ms.
const ENOUGH: usize = 5_000;

/// So many tasks are looked through; of more, all ids are read in order.
const FEW: u64 = 5_000;

/// Where tasks that are meant can be found.
pub(super) fn sources(filter: &TaskFilter, counts: &Counts) -> Vec<String> {
    let wanted = &filter.statuses;
    let (pending, running) = (wanted.contains(&TaskStatus::Pending), wanted.contains(&TaskStatus::Running));
    let many = (pending && counts.pending > FEW) || ((pending || running) && counts.running > FEW);
    if wanted.is_empty() || wanted.contains(&TaskStatus::Success) || many {
        return vec!["ids".to_owned()];
    }
    let mut sources = Vec::new();
    if pending {
        sources.push("pending".to_owned());
    }
    if pending || running {
        // What is held is pending.
        sources.push("leases".to_owned());
    }
    for (stage, status) in STAGES.iter().enumerate() {
        if status.is_final() && wanted.contains(status) {
            sources.push(format!("ended:{stage}"));
        }
    }
    sources
}

/// Adds the arguments of a look for one more than the page holds.
pub(super) fn pack(
    call: &mut Call,
    filter: &TaskFilter,
    sources: &[String],
    before: Option<TaskId>,
    limit: usize,
) {
    call.list(sources.iter());
    match before {
        Some(id) => call.arg(id.as_bytes()),
        None => call.arg(""),
    };
    call.arg(limit + 1).arg(ENOUGH);
    let is_meant = |status: &TaskStatus| filter.statuses.is_empty() || filter.statuses.contains(status);
    let stages: String = STAGES.iter().map(|status| if is_meant(status) { '1' } else { '0' }).collect();
    call.arg(stages);
    call.arg(filter.created_after.map_or(i64::MIN, |at| exact(time::to_micros(at))));
    call.arg(filter.created_before.map_or(i64::MAX, |at| exact(time::to_micros(at))));
    call.list(filter.names.iter());
    call.list(filter.queues.iter());
    call.list(filter.tags.iter().map(|(key, value)| pack_tag(key, value)));
}

/// Ids that are meant, in order, and where to look on; `None`: there is no more.
pub(super) struct Found {
    pub(super) ids: Vec<TaskId>,
    pub(super) next: Option<Cursor>,
}

pub(super) fn unpack(
    mut answer: List<'_>,
    before: Option<TaskId>,
    limit: usize,
) -> Result<Found, StoreError> {
    let (mut ids, mut down_to): (Vec<TaskId>, Option<TaskId>) = (Vec::new(), None);
    while !answer.is_empty() {
        let mut source = answer.list()?;
        let seen = source.bytes()?;
        down_to = down_to.max(seen.try_into().ok().map(TaskId::from_bytes));
        while !source.is_empty() {
            ids.push(source.task_id()?);
        }
    }
    // Down to there, all sources have given everything.
    ids.retain(|id| down_to.is_none_or(|down_to| *id >= down_to) && before.is_none_or(|before| *id < before));
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids.dedup();
    if ids.len() > limit {
        ids.truncate(limit);
        down_to = ids.last().copied();
    }
    Ok(Found { ids, next: down_to.map(Cursor::after) })
}
