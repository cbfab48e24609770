//! Finishes of runs, releases of holds, and reports of runs.

use rusqlite::params;

use super::row_state::RowState;
use super::task_row::TaskRow;
use super::transaction::Transaction;
use crate::model::TaskStatus;
use crate::store::{Finish, FinishKind, Finished, HoldOutcome, Release, Report, transition};

/// Finishes a successful run of this process in one step, as the task state machine would. It changes nothing if the row is not
/// where it was remembered. Reading the row first would search the tree once more. That matters because the writer's thread
/// limits how fast tasks run: it spends 5 µs to begin one task and end one (`docs/performance.md`). The contract suite tests
/// that both ways agree.
const SUCCEED_AT: &str = "
UPDATE taskflow_tasks
SET state = 4, finished_at = ?4, result = ?5, lease_until = NULL, error = NULL, lost_runs = 0
WHERE seq = ?1 AND id = ?2 AND fence = ?3 AND state = 3 AND cancel_requested = 0";

pub(super) fn finish(tx: &mut Transaction<'_, '_>, finishes: &[Finish]) -> rusqlite::Result<Vec<Finished>> {
    finishes.iter().map(|finish| finish_one(tx, finish)).collect()
}

fn finish_one(tx: &mut Transaction<'_, '_>, finish: &Finish) -> rusqlite::Result<Finished> {
    if succeed_at_once(tx, finish)? {
        tx.should_notify = true;
        return Ok(Finished::Applied(TaskStatus::Success));
    }
    let row = tx.row(finish.run.id)?;
    let task = row.as_ref().map(TaskRow::task);
    let decision = transition::finish(task.as_ref(), finish.run.fence, &finish.kind, tx.now);
    if let Some((row, change)) = row.zip(decision.change) {
        let stored = if finish.lines.is_empty() { 0 } else { tx.log_lines(&row)? };
        tx.append_report(&row, finish.progress.as_ref(), finish.new_lines(stored))?;
        tx.apply(&row, &change)?;
    }
    Ok(decision.answer)
}

/// The shortcut for most runs: success, nothing left to report, and no request to stop.
fn succeed_at_once(tx: &mut Transaction<'_, '_>, finish: &Finish) -> rusqlite::Result<bool> {
    let Some(place) = tx.place(finish.run.id) else { return Ok(false) };
    let FinishKind::Success { result } = &finish.kind else { return Ok(false) };
    if finish.progress.is_some() || !finish.lines.is_empty() {
        return Ok(false);
    }
    let fence = i64::try_from(finish.run.fence).unwrap_or(i64::MAX);
    let changed =
        tx.sql.execute(SUCCEED_AT, params![place.seq, finish.run.id.as_bytes(), fence, tx.now, result])?;
    if changed > 0 {
        let queue = tx.counts.queue(&place.queue);
        tx.counts.exit(queue, RowState::Running, 1);
        tx.counts.enter(queue, RowState::Success, 1);
    }
    Ok(changed > 0)
}

/// Releases a hold of this process in one step, as the task state machine would. This is for a task that is due now and never
/// expires: only its state and its lease change. It changes nothing if the row is not where its insert remembered it.
const RELEASE_AT: &str = "
UPDATE taskflow_tasks SET state = 0, instance = NULL, lease_until = NULL
WHERE seq = ?1 AND id = ?2 AND fence = ?3 AND state = 2 AND attempt = 0 AND run_at <= ?4 AND expires_at IS NULL";

pub(super) fn release(tx: &mut Transaction<'_, '_>, releases: &[Release]) -> rusqlite::Result<Vec<bool>> {
    releases.iter().map(|release| release_one(tx, release)).collect()
}

fn release_one(tx: &mut Transaction<'_, '_>, release: &Release) -> rusqlite::Result<bool> {
    let Release { hold, outcome } = release;
    if release_at_once(tx, release)? {
        tx.should_notify = true;
        return Ok(true);
    }
    tx.decide(hold.id, |task| transition::release(task, hold.fence, outcome))
}

fn release_at_once(tx: &mut Transaction<'_, '_>, release: &Release) -> rusqlite::Result<bool> {
    let Release { hold, outcome } = release;
    let (Some(place), HoldOutcome::Run) = (tx.place(hold.id), outcome) else { return Ok(false) };
    let fence = i64::try_from(hold.fence).unwrap_or(i64::MAX);
    let changed = tx.sql.execute(RELEASE_AT, params![place.seq, hold.id.as_bytes(), fence, tx.now])?;
    if changed > 0 {
        let queue = tx.counts.queue(&place.queue);
        tx.counts.exit(queue, RowState::Held, 0);
        tx.counts.enter(queue, RowState::Due, 0);
    }
    Ok(changed > 0)
}

pub(super) fn report(tx: &mut Transaction<'_, '_>, reports: &[Report]) -> rusqlite::Result<Vec<bool>> {
    reports.iter().map(|report| report_one(tx, report)).collect()
}

fn report_one(tx: &mut Transaction<'_, '_>, report: &Report) -> rusqlite::Result<bool> {
    let row = tx.row(report.run.id)?.filter(|row| row.is_running_under(report.run.fence));
    let Some(row) = row else { return Ok(false) };
    let stored = if report.lines.is_empty() { 0 } else { tx.log_lines(&row)? };
    tx.append_report(&row, report.progress.as_ref(), report.new_lines(stored))?;
    Ok(true)
}
