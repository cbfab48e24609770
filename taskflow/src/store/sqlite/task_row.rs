//! The writes of transitions to a task row: the task waits again, or ends. [`claim`](super::claim) begins its attempts.

use rusqlite::{OptionalExtension, Row, ToSql, params};

use super::expiring;
use super::queue_counts::QueueNumber;
use super::readable::is_unreadable;
use super::row;
use super::row_state::RowState;
use super::transaction::Transaction;
use super::unique_keys::{self, KeyKind};
use crate::model::{AttemptOutcome, LogLine, TaskId, TaskStatus, time};
use crate::store::transition::{Change, Decision, EndedRun, ErrorChange, Stage, TaskState};

/// A row before a transition.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskRow {
    pub(super) seq: i64,
    pub(super) state: RowState,
    pub(super) queue: QueueNumber,
    pub(super) attempt: i64,
    max_attempts: i64,
    pub(super) fence: i64,
    lost_runs: i64,
    snoozes: i64,
    pub(super) cancel_requested: bool,
    pub(super) instance: Option<i64>,
    run_at: i64,
    started_at: Option<i64>,
    has_key: bool,
    has_run_key: bool,
    pub(super) has_concurrency_key: bool,
    pub(super) expires_at: Option<i64>,
}

const BY_ID: &str = "
SELECT seq, state, queue, attempt, fence, lost_runs, cancel_requested, instance, run_at, started_at,
       idempotency_key IS NOT NULL, run_key IS NOT NULL, concurrency_key IS NOT NULL, expires_at,
       max_attempts, snoozes
FROM taskflow_tasks WHERE id = ?1";

const BY_SEQ: &str = "
SELECT seq, state, queue, attempt, fence, lost_runs, cancel_requested, instance, run_at, started_at,
       idempotency_key IS NOT NULL, run_key IS NOT NULL, concurrency_key IS NOT NULL, expires_at,
       max_attempts, snoozes
FROM taskflow_tasks WHERE seq = ?1";

/// A waiting row has no lease and no end time. A reopened row (?12) has no progress.
const WAIT: &str = "
UPDATE taskflow_tasks
SET state = ?2, attempt = ?3, max_attempts = ?4, fence = ?5, lost_runs = ?6, snoozes = ?7, run_at = ?8,
    expires_at = ?9, error = CASE WHEN ?10 THEN error ELSE ?11 END,
    progress = CASE WHEN ?12 THEN NULL ELSE progress END,
    finished_at = NULL, instance = NULL, lease_until = NULL, cancel_requested = 0
WHERE seq = ?1";

const ASK_TO_STOP: &str = "UPDATE taskflow_tasks SET cancel_requested = 1 WHERE seq = ?1";

/// The row keeps the instance that ran the task, because it is the record of the last attempt.
const SUCCEED: &str = "
UPDATE taskflow_tasks
SET state = 4, finished_at = ?2, result = ?3, lease_until = NULL, error = NULL, lost_runs = 0, cancel_requested = 0
WHERE seq = ?1";

const END: &str = "
UPDATE taskflow_tasks
SET state = ?2, attempt = ?3, fence = ?4, lost_runs = ?5, snoozes = ?6, finished_at = ?7, error = ?8,
    instance = NULL, lease_until = NULL, cancel_requested = 0
WHERE seq = ?1";

const REJECT: &str = "
UPDATE taskflow_tasks
SET state = 8, attempt = 0, lost_runs = 0, finished_at = ?2, error = ?3, instance = NULL, lease_until = NULL,
    cancel_requested = 0
WHERE seq = ?1";

const ENTER_LATER: &str = "
INSERT OR IGNORE INTO taskflow_later (run_at, task, queue, name)
SELECT run_at, seq, queue, name FROM taskflow_tasks WHERE seq = ?1";

const EXIT_LATER: &str = "DELETE FROM taskflow_later WHERE run_at = ?2 AND task = ?1";

const ENTER_BADLY: &str = "
INSERT OR IGNORE INTO taskflow_ended_badly (state, id) SELECT state, id FROM taskflow_tasks WHERE seq = ?1";

const EXIT_BADLY: &str = "
DELETE FROM taskflow_ended_badly WHERE state = ?2 AND id = (SELECT id FROM taskflow_tasks WHERE seq = ?1)";

const RECORD: &str = "
INSERT INTO taskflow_attempts (task, n, number, instance, started_at, finished_at, outcome, error)
VALUES (
    ?1,
    (SELECT coalesce(max(n), 0) + 1 FROM taskflow_attempts WHERE task = ?1),
    ?2,
    coalesce((SELECT id FROM taskflow_instances WHERE number = ?3), zeroblob(16)),
    ?4, ?5, ?6, ?7
)";

const LOG: &str = "
INSERT INTO taskflow_logs (task, n, at, level, attempt, message)
VALUES (?1, (SELECT coalesce(max(n), 0) + 1 FROM taskflow_logs WHERE task = ?1), ?2, ?3, ?4, ?5)";

const LOG_LINES: &str = "SELECT count(*) FROM taskflow_logs WHERE task = ?1";

const PROGRESS: &str = "UPDATE taskflow_tasks SET progress = ?2 WHERE seq = ?1";

impl Transaction<'_, '_> {
    /// The row of a task. A row that cannot be read is first ended as [damaged](Transaction::fail_damaged).
    pub(super) fn row(&mut self, id: TaskId) -> rusqlite::Result<Option<TaskRow>> {
        match self.read_row(BY_ID, id.as_bytes()) {
            Err(error) if is_unreadable(&error) && self.fail_damaged_id(id, &error)? => {
                self.read_row(BY_ID, id.as_bytes())
            }
            row => row,
        }
    }

    pub(super) fn row_of(&mut self, seq: i64) -> rusqlite::Result<Option<TaskRow>> {
        match self.read_row(BY_SEQ, seq) {
            Err(error) if is_unreadable(&error) && self.fail_damaged(seq, &error)?.is_some() => {
                self.read_row(BY_SEQ, seq)
            }
            row => row,
        }
    }

    fn read_row(&mut self, query: &'static str, key: impl ToSql) -> rusqlite::Result<Option<TaskRow>> {
        let (sql, counts) = (self.sql, &mut self.counts);
        sql.get(query)?.query_row([key], |row| TaskRow::read(row, |name| counts.queue(name))).optional()
    }

    /// Asks `rule` for a decision about a task, and applies it.
    pub(super) fn decide<'r, A>(
        &mut self,
        id: TaskId,
        rule: impl FnOnce(Option<&TaskState>) -> Decision<'r, A>,
    ) -> rusqlite::Result<A> {
        let row = self.row(id)?;
        let decision = rule(row.as_ref().map(TaskRow::task).as_ref());
        if let Some((row, change)) = row.zip(decision.change) {
            self.apply(&row, &change)?;
        }
        Ok(decision.answer)
    }

    /// Writes a change that the task state machine decided.
    pub(super) fn apply(&mut self, row: &TaskRow, change: &Change<'_>) -> rusqlite::Result<()> {
        self.should_notify = true;
        // The row itself is the record of a successful run.
        if let Some(run) = change.ended_run.as_ref().filter(|run| run.outcome != AttemptOutcome::Success) {
            self.record(row, run)?;
        }
        let next = &change.next;
        let fence = i64::try_from(next.fence).unwrap_or(i64::MAX);
        let (state, attempt) = (RowState::of(next, self.now), i64::from(next.attempt));
        let (keeps_error, error) = match &change.error {
            ErrorChange::Keep => (true, None),
            ErrorChange::Clear => (false, None),
            ErrorChange::Set(error) => (false, Some(&**error)),
        };
        match next.stage {
            Stage::Held | Stage::Running => {
                return self.sql.execute(ASK_TO_STOP, [row.seq]).map(drop);
            }
            Stage::Waiting => {
                let TaskState { max_attempts, lost_runs, snoozes, run_at, expires_at, .. } = *next;
                self.sql.execute(
                    WAIT,
                    params![
                        row.seq,
                        state.number(),
                        attempt,
                        max_attempts,
                        fence,
                        lost_runs,
                        snoozes,
                        run_at,
                        expires_at,
                        keeps_error,
                        error,
                        change.reopens,
                    ],
                )?;
            }
            Stage::Ended(TaskStatus::Success) => {
                self.sql.execute(SUCCEED, params![row.seq, self.now, change.result])?;
            }
            Stage::Ended(_) => {
                let TaskState { lost_runs, snoozes, .. } = *next;
                let state = state.number();
                self.sql.execute(
                    END,
                    params![row.seq, state, attempt, fence, lost_runs, snoozes, self.now, error],
                )?;
            }
        }
        self.moved(row, state, next)?;
        if next.waits_for_first() && row.has_run_key {
            unique_keys::take_run_key(self, row.seq)?;
        }
        if matches!(next.stage, Stage::Ended(status) if status != TaskStatus::Success) {
            self.free_keys(row)?;
        }
        Ok(())
    }

    /// Updates the counts and the tables of states after a row has changed its state. The columns of the row are
    /// written already.
    fn moved(&mut self, row: &TaskRow, state: RowState, next: &TaskState) -> rusqlite::Result<()> {
        self.counts.exit(row.queue, row.state, row.attempt);
        self.counts.enter(row.queue, state, next.attempt.into());
        self.left_state(row, state)?;
        if let Some(expires_at) = next.expires_at.filter(|_| may_expire(state)) {
            expiring::expires(self, row.seq, expires_at)?;
        }
        match state {
            RowState::Later => self.sql.execute(ENTER_LATER, [row.seq]).map(drop),
            RowState::Failed | RowState::Interrupted | RowState::Cancelled | RowState::Rejected => {
                self.sql.execute(ENTER_BADLY, [row.seq]).map(drop)
            }
            RowState::Blocked | RowState::Due | RowState::Held | RowState::Running | RowState::Success => {
                Ok(())
            }
        }
    }

    /// Removes a row that changes to another state from the tables of its old state. Does not change the counts of its
    /// queue.
    pub(super) fn left_state(&mut self, row: &TaskRow, to: RowState) -> rusqlite::Result<()> {
        if let Some(expires_at) = row.expires_at.filter(|_| may_expire(row.state)) {
            expiring::forget(self, row.seq, expires_at)?;
        }
        match row.state {
            RowState::Later => self.sql.execute(EXIT_LATER, [row.seq, row.run_at]).map(drop),
            RowState::Blocked => self.unblock(row.seq),
            RowState::Due | RowState::Running if row.has_concurrency_key && to != RowState::Running => {
                let key = self.concurrency_key(row.seq)?;
                key.map_or(Ok(()), |key| self.unblock_after(row.queue, &key, row.state))
            }
            RowState::Failed | RowState::Interrupted | RowState::Cancelled | RowState::Rejected => {
                self.sql.execute(EXIT_BADLY, [row.seq, row.state.number()]).map(drop)
            }
            RowState::Due | RowState::Held | RowState::Running | RowState::Success => Ok(()),
        }
    }

    /// Ends a new row that was refused.
    pub(super) fn reject(&mut self, seq: i64, error: &str) -> rusqlite::Result<()> {
        self.sql.execute(REJECT, params![seq, self.now, error])?;
        self.sql.execute(ENTER_BADLY, [seq]).map(drop)
    }

    /// Frees the keys that a row holds.
    pub(super) fn free_keys(&mut self, row: &TaskRow) -> rusqlite::Result<()> {
        if row.has_key {
            unique_keys::free(self, row.seq, KeyKind::Idempotency)?;
        }
        if row.has_run_key {
            unique_keys::free(self, row.seq, KeyKind::Run)?;
        }
        Ok(())
    }

    /// Records the current run as an attempt that ended now.
    fn record(&mut self, row: &TaskRow, run: &EndedRun<'_>) -> rusqlite::Result<()> {
        let started_at = row.started_at.unwrap_or(self.now);
        let outcome = run.outcome.as_str();
        self.sql.execute(
            RECORD,
            params![row.seq, row.attempt, row.instance, started_at, self.now, outcome, run.error],
        )?;
        Ok(())
    }

    /// How many lines a task has logged.
    pub(super) fn log_lines(&self, row: &TaskRow) -> rusqlite::Result<u32> {
        let lines: i64 = self.sql.get(LOG_LINES)?.query_row([row.seq], |row| row.get(0))?;
        Ok(row::to_u32(lines))
    }

    /// Stores progress and log lines of a run.
    pub(super) fn append_report(
        &mut self,
        row: &TaskRow,
        progress: Option<&crate::model::Progress>,
        lines: &[LogLine],
    ) -> rusqlite::Result<()> {
        if let Some(progress) = progress {
            self.sql.execute(PROGRESS, params![row.seq, row::progress_json(progress)])?;
        }
        if lines.is_empty() {
            return Ok(());
        }
        let mut log = self.sql.get(LOG)?;
        for line in lines {
            let at = time::to_micros(line.at);
            log.execute(params![row.seq, at, line.level.as_str(), line.attempt, line.message])?;
        }
        Ok(())
    }
}

/// Whether a task in this state is in the list of expiring tasks, if it has an `expires_at`.
pub(super) fn may_expire(state: RowState) -> bool {
    matches!(state, RowState::Blocked | RowState::Due | RowState::Later)
}

impl TaskRow {
    pub(super) fn is_running_under(&self, fence: u64) -> bool {
        self.state == RowState::Running && i64::try_from(fence) == Ok(self.fence)
    }

    /// The state of the row, for the task state machine.
    pub(super) fn task(&self) -> TaskState {
        TaskState {
            stage: self.state.stage(),
            attempt: row::to_u32(self.attempt),
            max_attempts: row::to_u32(self.max_attempts),
            fence: row::to_u64(self.fence),
            lost_runs: row::to_u32(self.lost_runs),
            snoozes: row::to_u32(self.snoozes),
            cancel_requested: self.cancel_requested,
            has_begun: self.started_at.is_some(),
            run_at: self.run_at,
            expires_at: self.expires_at,
        }
    }

    fn read(row: &Row<'_>, queue: impl FnOnce(&str) -> QueueNumber) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            state: RowState::from_number(row.get(1)?),
            queue: queue(row.get_ref(2)?.as_str()?),
            attempt: row.get(3)?,
            fence: row.get(4)?,
            lost_runs: row.get(5)?,
            cancel_requested: row.get(6)?,
            instance: row.get(7)?,
            run_at: row.get(8)?,
            started_at: row.get(9)?,
            has_key: row.get(10)?,
            has_run_key: row.get(11)?,
            has_concurrency_key: row.get(12)?,
            expires_at: row.get(13)?,
            max_attempts: row.get(14)?,
            snoozes: row.get(15)?,
        })
    }
}
