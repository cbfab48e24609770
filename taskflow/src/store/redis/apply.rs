//! Applies decisions of the rules to rows that may have changed meanwhile.
//!
//! The rules are in Rust, the rows are on the server, and a call is one script. If a decision needs only the stage of
//! a task (cancel, release), the script gets the change for each stage and answers which stage it found. That takes
//! one round trip and nothing is repeated. If a decision needs the row (manual retry, recovery), the row is read
//! first; the script checks it again and leaves it alone if it has changed.

use super::answer::List;
use super::packed_row::{HELD, PackedRow, RUNNING, exact, outcome_number, stage_of};
use super::script::Call;
use crate::model::{StoreError, TaskId};
use crate::store::transition::{Change, ErrorChange, Stage, TaskState};

/// A change, and the state it was decided for. It is applied only to rows of that stage.
pub(super) struct Offer<'c> {
    pub(super) from: TaskState,
    pub(super) change: Change<'c>,
    pub(super) only: Only,
}

/// What must be true of a row besides its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Only {
    Anything,
    /// It waits for its first attempt.
    First,
    /// Its lease has ended, or it has expired. It is asked to stop if and only if it was when it was read.
    Over,
}

/// The rows that a group of changes is offered to.
pub(super) enum Rows<'r> {
    Of(&'r [TaskId]),
    /// Each with the fence it must have. If one row has changed since it was read, nothing at all is done.
    Strictly(&'r [(TaskId, u64)]),
    /// Each with the fence it must have. A row that has changed is left alone; the others are changed.
    Under(&'r [(TaskId, u64)]),
    WithRunKey(&'r str),
}

/// The changes that a rule makes if only the stage of a task matters.
pub(super) fn offers<'c>(
    fence: u64,
    only: Only,
    rule: impl Fn(&TaskState) -> Option<Change<'c>>,
) -> Vec<Offer<'c>> {
    let offer = |stage| {
        let from = TaskState { fence, ..TaskState::of_stage(stage) };
        rule(&from).map(|change| Offer { from, change, only })
    };
    [Stage::Waiting, Stage::Held, Stage::Running].into_iter().filter_map(offer).collect()
}

/// Adds a group of arguments for `apply_main.lua`.
pub(super) fn pack(call: &mut Call, offers: &[Offer<'_>], rows: &Rows<'_>) {
    let (count, strict, fenced, by_run_key) = match rows {
        Rows::Of(ids) => (ids.len(), 0, 0, 0),
        Rows::Strictly(rows) => (rows.len(), 1, 1, 0),
        Rows::Under(rows) => (rows.len(), 0, 1, 0),
        Rows::WithRunKey(_) => (0, 0, 0, 1),
    };
    let mut head = Vec::with_capacity(11);
    head.extend(super::packed_row::length(offers.len()));
    head.extend(super::packed_row::length(count));
    head.extend([strict, fenced, by_run_key]);
    call.arg(head);
    for offer in offers {
        pack_offer(call, offer);
    }
    match rows {
        Rows::Of(ids) => {
            for id in *ids {
                call.arg(id.as_bytes());
            }
        }
        Rows::Strictly(rows) | Rows::Under(rows) => {
            for (id, fence) in *rows {
                let mut row = [0; 24];
                row[..16].copy_from_slice(id.as_bytes());
                row[16..].copy_from_slice(&fence.to_le_bytes());
                call.arg(&row[..]);
            }
        }
        Rows::WithRunKey(run_key) => {
            call.arg(*run_key);
        }
    }
}

fn pack_offer(call: &mut Call, offer: &Offer<'_>) {
    let Offer { from, change, only } = offer;
    let next = &change.next;
    let class = match from.stage {
        Stage::Waiting => 1,
        Stage::Held => 2,
        Stage::Running => 3,
        Stage::Ended(_) => 4,
    };
    let is_over = *only == Only::Over;
    let waits = from.stage == Stage::Waiting;
    let stop = if is_over { u8::from(from.cancel_requested) } else { u8::MAX };
    let stage = match next.stage {
        Stage::Waiting => 0,
        Stage::Held => HELD,
        Stage::Running => RUNNING,
        Stage::Ended(status) => stage_of(status),
    };
    // In the order of SETS_ in `constants.lua`. A field that is not set keeps its value, even if the row was not
    // read.
    let sets = [
        next.attempt != from.attempt,
        next.fence != from.fence,
        next.lost_runs != from.lost_runs,
        next.snoozes != from.snoozes,
        next.max_attempts != from.max_attempts,
        next.run_at != from.run_at,
        next.expires_at != from.expires_at,
        change.reopens,
    ];
    let sets = sets.iter().rev().fold(0_u16, |sets, is_set| sets << 1 | u16::from(*is_set));
    let (error_op, error) = match &change.error {
        ErrorChange::Keep => (0, ""),
        ErrorChange::Clear => (1, ""),
        ErrorChange::Set(error) => (2, &**error),
    };
    let run = change.ended_run.as_ref();
    let outcome = run.map_or(0, |run| outcome_number(run.outcome));
    let first = u8::from(*only == Only::First);
    // `apply_main.lua` unpacks this as `<BBBBBBI2BBI4I4I4i8i8`.
    let mut bytes = Vec::with_capacity(38);
    bytes.extend([class, stop, u8::from(is_over && !waits), u8::from(is_over && waits), first, stage]);
    bytes.extend(sets.to_le_bytes());
    bytes.extend([error_op, outcome]);
    for number in [next.lost_runs, next.snoozes, next.max_attempts] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(exact(next.run_at).to_le_bytes());
    bytes.extend(next.expires_at.map_or(super::packed_row::FOR_EVER, exact).to_le_bytes());
    call.arg(bytes).arg(error).arg(run.and_then(|run| run.error).unwrap_or_default());
}

/// A row that the script looked at.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: TaskId,
    /// Whether it was changed.
    pub(super) is_applied: bool,
    /// The task before the change, as far as the beginning of its packed state says; `None` for an unknown task.
    pub(super) before: Option<TaskState>,
}

/// Reads the answer: the rows of all groups, in order.
pub(super) fn unpack(mut answer: List<'_>) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::with_capacity(answer.len());
    while !answer.is_empty() {
        rows.push(answer.parsed(row)?);
    }
    Ok(rows)
}

/// One row of the answer; `None` if it cannot be read.
fn row(bytes: &[u8]) -> Option<Row> {
    let (id, rest) = bytes.split_first_chunk::<16>()?;
    let (applied, head) = rest.split_first()?;
    let before = if head.is_empty() { None } else { Some(PackedRow::task_of(head)?) };
    Some(Row { id: TaskId::from_bytes(*id), is_applied: *applied == b'1', before })
}
