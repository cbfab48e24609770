//! Pages of records, newest or oldest first.
//!
//! Each way of finding tasks (a *source*) is ordered or small. Tasks that ended other than `success` are kept in the
//! order of their ids. Running tasks, and pending ones if there are few, are all looked at. Everything else is read
//! along all ids. One script looks at no more than [`ENOUGH`] tasks along an order, so that it does not stop other
//! calls for long; the next goes on from there, until the page has looked at as many tasks as it may.

use super::answer::List;
use super::packed_row::{STAGES, exact, pack_tag};
use super::script::Call;
use crate::model::{Counts, Cursor, Order, StoreError, TaskFilter, TaskId, TaskStatus, time};

/// The maximum number of tasks that one script looks at along an order; this takes some 5 ms.
const ENOUGH: usize = 5_000;

/// Up to this many tasks are all looked at; if there are more, all ids are read in order.
const FEW: u64 = 4_000;

/// Where matching tasks can be found, and how many tasks each script looks at in unordered sources.
#[derive(Debug)]
pub(super) struct Sources {
    names: Vec<String>,
    looked_through: usize,
}

impl Sources {
    /// How many tasks a script may look at along each order if `left` may be looked at in all; `None` if `left` is too
    /// small.
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
        // Tasks that have expired are found twice.
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
        // Held tasks are pending.
        sources.push("leases".to_owned());
    }
    for (stage, status) in STAGES.iter().enumerate() {
        if status.is_final() && wanted.contains(status) {
            sources.push(format!("ended:{stage}"));
        }
    }
    sources
}

/// Adds the arguments to find one task more than the page holds while looking at no more than `left` tasks. Answers
/// `false`, and adds nothing, if `left` is too small.
pub(super) fn pack(
    call: &mut Call,
    filter: &TaskFilter,
    sources: &Sources,
    after: Option<TaskId>,
    limit: usize,
    left: usize,
) -> bool {
    let Some(along_each) = sources.along_each(left) else { return false };
    call.list(sources.names.iter());
    call.arg(filter.order.as_str());
    match after {
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

/// The last id before this one in that order.
fn before(id: [u8; 16], order: Order) -> TaskId {
    let id = u128::from_be_bytes(id);
    let before = match order {
        Order::Newest => id.saturating_add(1),
        Order::Oldest => id.saturating_sub(1),
    };
    TaskId::from_bytes(before.to_be_bytes())
}

/// Matching ids, in order, and where to look next; `None` if there is nothing more.
pub(super) struct Found {
    pub(super) looked_at: usize,
    pub(super) ids: Vec<TaskId>,
    pub(super) next: Option<Cursor>,
}

pub(super) fn unpack(
    mut answer: List<'_>,
    order: Order,
    after: Option<TaskId>,
    limit: usize,
) -> Result<Found, StoreError> {
    let (mut ids, mut up_to): (Vec<TaskId>, Option<TaskId>) = (Vec::new(), None);
    let looked_at = usize::try_from(answer.number()?).unwrap_or(0);
    while !answer.is_empty() {
        let mut source = answer.list()?;
        let unseen: Option<[u8; 16]> = source.bytes()?.try_into().ok();
        let seen = unseen.map(|id| before(id, order));
        up_to = up_to.into_iter().chain(seen).min_by(|a, b| order.compare(*a, *b));
        while !source.is_empty() {
            ids.push(source.task_id()?);
        }
    }
    // All sources have been read completely up to this id.
    ids.retain(|id| {
        up_to.is_none_or(|up_to| order.compare(*id, up_to).is_le())
            && after.is_none_or(|after| order.compare(after, *id).is_lt())
    });
    ids.sort_unstable_by(|a, b| order.compare(*a, *b));
    ids.dedup();
    if ids.len() > limit {
        ids.truncate(limit);
        up_to = ids.last().copied();
    }
    Ok(Found { looked_at, ids, next: up_to.map(Cursor::after) })
}
