//! The steps of a row's life: it begins an attempt elsewhere; here it waits again, or ends.

use rusqlite::{OptionalExtension, Row, params};

use super::ledger::QueueNumber;
use super::row;
use super::state::State;
use super::transaction::Transaction;
use crate::model::{AttemptOutcome, LogLine, TaskId, time};

/// A row as it is before a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) seq: i64,
    pub(super) state: State,
    pub(super) queue: QueueNumber,
    pub(super) attempt: i64,
    pub(super) fence: i64,
    pub(super) lost_runs: i64,
    pub(super) cancel_requested: bool,
    log_lines: i64,
    pub(super) instance: Option<i64>,
    pub(super) run_at: i64,
    started_at: Option<i64>,
}

const BY_ID: &str = "
SELECT seq, state, queue, attempt, fence, lost_runs, cancel_requested, log_lines, instance, run_at, started_at
FROM taskflow_tasks WHERE id = ?1";

const BY_SEQ: &str = "
SELECT seq, state, queue, attempt, fence, lost_runs, cancel_requested, log_lines, instance, run_at, started_at
FROM taskflow_tasks WHERE seq = ?1";

const WAIT: &str = "
UPDATE taskflow_tasks
SET state = ?2, attempt = ?3, run_at = ?4, wake_at = ?5, error = ?6, lost_runs = ?7,
    instance = NULL, lease_until = NULL, cancel_requested = 0
WHERE seq = ?1";

const TAKE_RUN_KEY: &str = "
UPDATE OR IGNORE taskflow_tasks SET run_key_held = 1 WHERE seq = ?1 AND run_key IS NOT NULL";

const LOSE_RUN_KEY: &str = "
UPDATE taskflow_tasks SET run_key = NULL WHERE seq = ?1 AND run_key IS NOT NULL AND run_key_held IS NULL";

const END: &str = "
UPDATE taskflow_tasks
SET state = ?2, ended_badly = ?2, attempt = ?3, finished_at = ?4, error = ?5, outcome = ?6, instance = ?7,
    lost_runs = ?8, lease_until = NULL, wake_at = NULL, key_held = NULL, run_key_held = NULL,
    cancel_requested = 0
WHERE seq = ?1";

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
INSERT INTO taskflow_logs (task, n, at, level, attempt, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

const LOGGED: &str = "
UPDATE taskflow_tasks SET log_lines = log_lines + ?2, log_bytes = min(log_bytes + ?3, 4294967295) WHERE seq = ?1";

const PROGRESS: &str = "UPDATE taskflow_tasks SET progress = ?2 WHERE seq = ?1";

/// A row that is to wait again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits<'a> {
    pub(super) attempt: i64,
    pub(super) run_at: i64,
    pub(super) lost_runs: i64,
    pub(super) error: Option<&'a str>,
}

/// A row that is to end other than well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends<'a> {
    pub(super) state: State,
    pub(super) attempt: i64,
    pub(super) lost_runs: i64,
    pub(super) error: &'a str,
    /// How the attempt ended that is in the row and stays there; `None` if there is none.
    pub(super) outcome: Option<AttemptOutcome>,
}

impl Transaction<'_, '_> {
    /// The row of a task.
    pub(super) fn life(&mut self, id: TaskId) -> rusqlite::Result<Option<Life>> {
        let (sql, ledger) = (self.sql, &mut self.ledger);
        sql.get(BY_ID)?
            .query_row([id.as_bytes()], |row| Life::read(row, |name| ledger.queue(name)))
            .optional()
    }

    pub(super) fn life_of(&mut self, seq: i64) -> rusqlite::Result<Option<Life>> {
        let (sql, ledger) = (self.sql, &mut self.ledger);
        sql.get(BY_SEQ)?.query_row([seq], |row| Life::read(row, |name| ledger.queue(name))).optional()
    }

    /// Counts a row out of one state and into another.
    pub(super) fn moved(&mut self, life: &Life, state: State, attempt: i64) {
        self.ledger.exit(life.queue, life.state, life.attempt);
        self.ledger.enter(life.queue, state, attempt);
    }

    /// Lets a row wait for its next attempt.
    pub(super) fn wait(&mut self, life: &Life, waits: Waits<'_>) -> rusqlite::Result<()> {
        let Waits { attempt, run_at, lost_runs, error } = waits;
        let state = State::waiting(run_at, self.now);
        let wake_at = (state == State::Later).then_some(run_at);
        self.sql
            .execute(WAIT, params![life.seq, state.number(), attempt, run_at, wake_at, error, lost_runs])?;
        self.moved(life, state, attempt);
        if attempt == 0 {
            self.take_run_key(life.seq)?;
        }
        Ok(())
    }

    /// A task that comes to wait for its first attempt again can be replaced again, unless another add has taken its
    /// run key meanwhile: that one replaced it, and it loses the key.
    pub(super) fn take_run_key(&mut self, seq: i64) -> rusqlite::Result<()> {
        self.sql.execute(TAKE_RUN_KEY, [seq])?;
        self.sql.execute(LOSE_RUN_KEY, [seq])?;
        Ok(())
    }

    /// Ends a row other than well.
    pub(super) fn end(&mut self, life: &Life, ends: Ends<'_>) -> rusqlite::Result<()> {
        let Ends { state, attempt, lost_runs, error, outcome } = ends;
        let instance = outcome.and(life.instance);
        let outcome = outcome.map(row::outcome_word);
        self.sql.execute(
            END,
            params![life.seq, state.number(), attempt, self.now, error, outcome, instance, lost_runs],
        )?;
        self.moved(life, state, attempt);
        Ok(())
    }

    /// Writes the attempt in a row down among the former ones.
    pub(super) fn record(
        &mut self,
        life: &Life,
        finished_at: i64,
        outcome: AttemptOutcome,
        error: Option<&str>,
    ) -> rusqlite::Result<()> {
        let started_at = life.started_at.unwrap_or(finished_at);
        let outcome = row::outcome_word(outcome);
        self.sql.execute(
            RECORD,
            params![life.seq, life.attempt, life.instance, started_at, finished_at, outcome, error],
        )?;
        Ok(())
    }

    /// Keeps what a run said.
    pub(super) fn say(
        &mut self,
        life: &Life,
        progress: Option<&crate::model::Progress>,
        lines: &[LogLine],
    ) -> rusqlite::Result<()> {
        if let Some(progress) = progress {
            self.sql.execute(PROGRESS, params![life.seq, row::progress_json(progress)])?;
        }
        if lines.is_empty() {
            return Ok(());
        }
        let mut log = self.sql.get(LOG)?;
        let mut bytes = 0_usize;
        for (n, line) in (life.log_lines..).zip(lines) {
            bytes = bytes.saturating_add(line.message.len());
            let at = time::to_micros(line.at);
            log.execute(params![life.seq, n, at, line.level.as_str(), line.attempt, line.message])?;
        }
        let (lines, bytes) = (row::number(lines.len()), row::number(bytes));
        self.sql.execute(LOGGED, params![life.seq, lines, bytes])?;
        Ok(())
    }
}

impl Life {
    pub(super) fn is_running_under(&self, fence: u64) -> bool {
        self.state == State::Running && i64::try_from(fence) == Ok(self.fence)
    }

    fn read(row: &Row<'_>, queue: impl FnOnce(&str) -> QueueNumber) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            state: State::from_number(row.get(1)?),
            queue: queue(row.get_ref(2)?.as_str()?),
            attempt: row.get(3)?,
            fence: row.get(4)?,
            lost_runs: row.get(5)?,
            cancel_requested: row.get(6)?,
            log_lines: row.get(7)?,
            instance: row.get(8)?,
            run_at: row.get(9)?,
            started_at: row.get(10)?,
        })
    }
}
