//! Pages of records, newest first.
//!
//! Each way of finding tasks (a *source*) has an order or is small: tasks that ended badly are kept in the order of
//! their ids; what runs, and what is pending where that is not much, is looked through; everything else is read along
//! all ids. A look ends after [`ENOUGH`] tasks, so that it stops nobody else for long, and the next goes on from there,
//! until a page has looked at as many as it may.

use super::answer::List;
use super::packed_row::{STAGES, exact, pack_tag};
use super::script::Call;
use crate::model::{Counts, Cursor, StoreError, TaskFilter, TaskId, TaskStatus, time};

/// Tasks that one script looks at along an order: some 5 ms.
const ENOUGH: usize = 5_000;

/// So many tasks are looked through; of more, all ids are read in order.
const FEW: u64 = 4_000;

/// Where tasks that are meant can be found, and how many of them are looked through each time.
#[derive(Debug)]
pub(super) struct Sources {
    names: Vec<String>,
    looked_through: usize,
}

impl Sources {
    /// How many tasks may be looked at along each order, when so many may be in all; `None`: it is not worth a look.
    fn along_each(&self, left: usize) -> Option<usize> {
        let along = left.checked_sub(self.looked_through)?;
        let orders = self.names.iter().filter(|name| !matches!(name.as_str(), "pending" | "leases")).count();
        Some((along / orders.max(1)).min(ENOUGH)).filter(|each| *each > 0)
    }
}

pub(super) fn sources(filter: &TaskFilter, counts: &Counts) -> Sources {
    let names = source_names(filter, counts);
    let is_looked_through = |name: &str| names.iter().any(|it| it == name);
    let mut looked_through = 0;
    if is_looked_through("pending") {
        // Some of them are found twice: those that have expired.
        looked_through += counts.pending * 2;
    }
    if is_looked_through("leases") {
        looked_through += counts.running;
    }
    Sources { names, looked_through: usize::try_from(looked_through).unwrap_or(usize::MAX) }
}

fn source_names(filter: &TaskFilter, counts: &Counts) -> Vec<String> {
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

/// Adds the arguments of a look for one more than the page holds, at no more than `left` tasks; `false` where those are too
/// few for a look.
pub(super) fn pack(
    call: &mut Call,
    filter: &TaskFilter,
    sources: &Sources,
    before: Option<TaskId>,
    limit: usize,
    left: usize,
) -> bool {
    let Some(along_each) = sources.along_each(left) else { return false };
    call.list(sources.names.iter());
    match before {
        Some(id) => call.arg(id.as_bytes()),
        None => call.arg(""),
    };
    call.arg(limit + 1).arg(along_each);
    let is_meant = |status: &TaskStatus| filter.statuses.is_empty() || filter.statuses.contains(status);
    let stages: String = STAGES.iter().map(|status| if is_meant(status) { '1' } else { '0' }).collect();
    call.arg(stages);
    call.arg(filter.created_after.map_or(i64::MIN, |at| exact(time::to_micros(at))));
    call.arg(filter.created_before.map_or(i64::MAX, |at| exact(time::to_micros(at))));
    call.list(filter.names.iter());
    call.list(filter.queues.iter());
    call.list(filter.tags.iter().map(|(key, value)| pack_tag(key, value)));
    true
}

fn next_id(id: [u8; 16]) -> TaskId {
    TaskId::from_bytes(u128::from_be_bytes(id).saturating_add(1).to_be_bytes())
}

/// Ids that are meant, in order, and where to look on; `None`: there is no more.
pub(super) struct Found {
    pub(super) looked_at: usize,
    pub(super) ids: Vec<TaskId>,
    pub(super) next: Option<Cursor>,
}

pub(super) fn unpack(
    mut answer: List<'_>,
    before: Option<TaskId>,
    limit: usize,
) -> Result<Found, StoreError> {
    let (mut ids, mut down_to): (Vec<TaskId>, Option<TaskId>) = (Vec::new(), None);
    let looked_at = usize::try_from(answer.number()?).unwrap_or(0);
    while !answer.is_empty() {
        let mut source = answer.list()?;
        let above = source.bytes()?;
        down_to = down_to.max(above.try_into().ok().map(next_id));
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
    Ok(Found { looked_at, ids, next: down_to.map(Cursor::after) })
}
