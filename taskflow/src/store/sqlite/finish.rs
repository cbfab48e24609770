//! How runs and holds end, and what runs say before.

use rusqlite::params;

use super::life::{Ends, Life, Waits};
use super::state::State;
use super::transaction::Transaction;
use crate::model::{AttemptOutcome, TaskStatus, time};
use crate::store::{Finish, FinishKind, Finished, Release, Report, Verdict};

/// What a run ends with that was asked to stop and would have gone back to waiting.
pub(super) const CANCELLED: &str = "cancelled";

const SUCCEED: &str = "
UPDATE taskflow_tasks
SET state = 4, finished_at = ?2, result = ?3, lease_until = NULL, error = NULL, lost_runs = 0
WHERE seq = ?1";

/// The same for a run of this process, in one step: the row is where it was, or nothing is changed.
const SUCCEED_AT: &str = "
UPDATE taskflow_tasks
SET state = 4, finished_at = ?4, result = ?5, lease_until = NULL, error = NULL, lost_runs = 0
WHERE seq = ?1 AND id = ?2 AND fence = ?3 AND state = 3 AND cancel_requested = 0";

const SNOOZED: &str = "UPDATE taskflow_tasks SET snoozes = snoozes + 1 WHERE seq = ?1";

const WAS_ASKED: &str = "UPDATE taskflow_tasks SET cancel_requested = 0 WHERE seq = ?1";

pub(super) fn finish(tx: &mut Transaction<'_, '_>, finishes: &[Finish]) -> rusqlite::Result<Vec<Finished>> {
    finishes.iter().map(|finish| finish_one(tx, finish)).collect()
}

fn finish_one(tx: &mut Transaction<'_, '_>, finish: &Finish) -> rusqlite::Result<Finished> {
    if succeed_at_once(tx, finish)? {
        tx.is_news = true;
        return Ok(Finished::Applied(TaskStatus::Success));
    }
    let Some(life) = tx.life(finish.run.id)? else { return Ok(Finished::Stale) };
    if !life.is_running_under(finish.run.fence) {
        return Ok(match life.was_finished_under(finish.run.fence) {
            true => Finished::Repeated(life.state.status()),
            false => Finished::Stale,
        });
    }
    tx.say(&life, finish.progress.as_ref(), &finish.lines)?;
    tx.is_news = true;
    let status = match &finish.kind {
        FinishKind::Success { result } => {
            tx.sql.execute(SUCCEED, params![life.seq, tx.now, result])?;
            if life.cancel_requested {
                tx.sql.execute(WAS_ASKED, [life.seq])?;
            }
            tx.moved(&life, State::Success, life.attempt)?;
            TaskStatus::Success
        }
        FinishKind::Retry { delay, outcome, error } => {
            tx.record(&life, *outcome, Some(error))?;
            let run_at = tx.now.saturating_add(time::micros(*delay));
            wait(tx, &life, Waits { attempt: life.attempt, run_at, lost_runs: 0, error: Some(error) })?
        }
        FinishKind::GiveBack { delay, outcome } => {
            if let Some(outcome) = outcome {
                tx.record(&life, *outcome, None)?;
                if *outcome == AttemptOutcome::Snoozed {
                    tx.sql.execute(SNOOZED, [life.seq])?;
                }
            }
            let run_at = tx.now.saturating_add(time::micros(*delay));
            let error = tx.error_of(&life)?;
            let attempt = (life.attempt - 1).max(0);
            wait(tx, &life, Waits { attempt, run_at, lost_runs: 0, error: error.as_deref() })?
        }
        FinishKind::End { status, outcome, error } => {
            let state = State::ended(*status);
            tx.record(&life, *outcome, Some(error))?;
            tx.end(&life, Ends { state, attempt: life.attempt, lost_runs: 0, error })?;
            state.status()
        }
    };
    Ok(Finished::Applied(status))
}

/// What most runs end with: success, nothing left to say, and nobody asked them to stop.
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
        let queue = tx.ledger.queue(&place.queue);
        tx.ledger.exit(queue, State::Running, 1);
        tx.ledger.enter(queue, State::Success, 1);
    }
    Ok(changed > 0)
}

/// Lets a row wait, or ends it if it was asked to stop.
fn wait(tx: &mut Transaction<'_, '_>, life: &Life, waits: Waits<'_>) -> rusqlite::Result<TaskStatus> {
    if life.cancel_requested {
        let Waits { attempt, lost_runs, .. } = waits;
        let state = State::Cancelled;
        tx.end(life, Ends { state, attempt, lost_runs, error: CANCELLED })?;
        return Ok(TaskStatus::Cancelled);
    }
    tx.wait(life, waits)?;
    Ok(TaskStatus::Pending)
}

pub(super) fn release(tx: &mut Transaction<'_, '_>, releases: &[Release]) -> rusqlite::Result<Vec<bool>> {
    releases.iter().map(|release| release_one(tx, release)).collect()
}

fn release_one(tx: &mut Transaction<'_, '_>, release: &Release) -> rusqlite::Result<bool> {
    let fence = i64::try_from(release.hold.fence).ok();
    let life = tx.life(release.hold.id)?.filter(|life| Some(life.fence) == fence);
    let Some(life) = life else { return Ok(false) };
    if life.state != State::Held {
        return Ok(release.was_applied(life.state.status()));
    }
    tx.is_news = true;
    match &release.verdict {
        Verdict::Run => tx.let_go(&life)?,
        Verdict::Cancel { reason } => {
            let (state, attempt, lost_runs) = (State::Cancelled, life.attempt, life.lost_runs);
            tx.end(&life, Ends { state, attempt, lost_runs, error: reason })?;
        }
    }
    Ok(true)
}

pub(super) fn report(tx: &mut Transaction<'_, '_>, reports: &[Report]) -> rusqlite::Result<Vec<bool>> {
    reports.iter().map(|report| report_one(tx, report)).collect()
}

fn report_one(tx: &mut Transaction<'_, '_>, report: &Report) -> rusqlite::Result<bool> {
    let life = tx.life(report.run.id)?.filter(|life| life.is_running_under(report.run.fence));
    let Some(life) = life else { return Ok(false) };
    tx.say(&life, report.progress.as_ref(), &report.lines)?;
    Ok(true)
}

impl Transaction<'_, '_> {
    /// Ends a hold: the task waits for the time it was added with.
    pub(super) fn let_go(&mut self, life: &Life) -> rusqlite::Result<()> {
        let error = self.error_of(life)?;
        let Life { attempt, run_at, lost_runs, .. } = *life;
        self.wait(life, Waits { attempt, run_at, lost_runs, error: error.as_deref() })
    }

    fn error_of(&self, life: &Life) -> rusqlite::Result<Option<String>> {
        let mut error = self.sql.get("SELECT error FROM taskflow_tasks WHERE seq = ?1")?;
        error.query_row([life.seq], |row| row.get(0))
    }
}
