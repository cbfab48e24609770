//! The steps of a row's life: it begins an attempt elsewhere; here it waits again, or ends.

use rusqlite::{OptionalExtension, Row, ToSql, params};

use super::expiring;
use super::keys::{self, Kind};
use super::ledger::QueueNumber;
use super::legible::is_illegible;
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
    pub(super) instance: Option<i64>,
    pub(super) run_at: i64,
    started_at: Option<i64>,
    has_key: bool,
    has_run_key: bool,
    pub(super) has_concurrency_key: bool,
    pub(super) expires_at: Option<i64>,
}

const BY_ID: &str = "
SELECT seq, state, queue, attempt, fence, lost_runs, cancel_requested, instance, run_at, started_at,
       idempotency_key IS NOT NULL, run_key IS NOT NULL, concurrency_key IS NOT NULL, expires_at
FROM taskflow_tasks WHERE id = ?1";

const BY_SEQ: &str = "
SELECT seq, state, queue, attempt, fence, lost_runs, cancel_requested, instance, run_at, started_at,
       idempotency_key IS NOT NULL, run_key IS NOT NULL, concurrency_key IS NOT NULL, expires_at
FROM taskflow_tasks WHERE seq = ?1";

const WAIT: &str = "
UPDATE taskflow_tasks
SET state = ?2, attempt = ?3, run_at = ?4, error = ?5, lost_runs = ?6,
    instance = NULL, lease_until = NULL, cancel_requested = 0
WHERE seq = ?1";

const END: &str = "
UPDATE taskflow_tasks
SET state = ?2, attempt = ?3, finished_at = ?4, error = ?5, lost_runs = ?6,
    instance = NULL, lease_until = NULL, cancel_requested = 0
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
}

impl Transaction<'_, '_> {
    /// The row of a task. One that cannot be read is [condemned](Transaction::condemn) first.
    pub(super) fn life(&mut self, id: TaskId) -> rusqlite::Result<Option<Life>> {
        match self.read_life(BY_ID, id.as_bytes()) {
            Err(error) if is_illegible(&error) && self.condemn_id(id, &error)? => {
                self.read_life(BY_ID, id.as_bytes())
            }
            life => life,
        }
    }

    pub(super) fn life_of(&mut self, seq: i64) -> rusqlite::Result<Option<Life>> {
        match self.read_life(BY_SEQ, seq) {
            Err(error) if is_illegible(&error) && self.condemn(seq, &error)?.is_some() => {
                self.read_life(BY_SEQ, seq)
            }
            life => life,
        }
    }

    fn read_life(&mut self, query: &'static str, key: impl ToSql) -> rusqlite::Result<Option<Life>> {
        let (sql, ledger) = (self.sql, &mut self.ledger);
        sql.get(query)?.query_row([key], |row| Life::read(row, |name| ledger.queue(name))).optional()
    }

    /// Writes down wherever states are kept that a row has gone from one to another. Its columns say so already.
    pub(super) fn moved(&mut self, life: &Life, state: State, attempt: i64) -> rusqlite::Result<()> {
        self.ledger.exit(life.queue, life.state, life.attempt);
        self.ledger.enter(life.queue, state, attempt);
        self.left_state(life, state)?;
        if let Some(expires_at) = life.expires_at.filter(|_| may_expire(state)) {
            expiring::expires(self, life.seq, expires_at)?;
        }
        match state {
            State::Later => self.sql.execute(ENTER_LATER, [life.seq]).map(drop),
            State::Failed | State::Interrupted | State::Cancelled | State::Rejected => {
                self.sql.execute(ENTER_BADLY, [life.seq]).map(drop)
            }
            State::Blocked | State::Due | State::Held | State::Running | State::Success => Ok(()),
        }
    }

    /// Takes a row that goes to another state out of where its own is kept, other than in its queue's numbers.
    pub(super) fn left_state(&mut self, life: &Life, to: State) -> rusqlite::Result<()> {
        if let Some(expires_at) = life.expires_at.filter(|_| may_expire(life.state)) {
            expiring::forget(self, life.seq, expires_at)?;
        }
        match life.state {
            State::Later => self.sql.execute(EXIT_LATER, [life.seq, life.run_at]).map(drop),
            State::Blocked => self.no_longer_aside(life.seq),
            State::Due | State::Running if life.has_concurrency_key && to != State::Running => {
                let key = self.concurrency_key(life.seq)?;
                key.map_or(Ok(()), |key| self.key_is_left(life.queue, &key, life.state))
            }
            State::Failed | State::Interrupted | State::Cancelled | State::Rejected => {
                self.sql.execute(EXIT_BADLY, [life.seq, life.state.number()]).map(drop)
            }
            State::Due | State::Held | State::Running | State::Success => Ok(()),
        }
    }

    /// Lets a row wait for its next attempt.
    pub(super) fn wait(&mut self, life: &Life, waits: Waits<'_>) -> rusqlite::Result<()> {
        let Waits { attempt, run_at, lost_runs, error } = waits;
        let state = State::waiting(run_at, self.now);
        self.sql.execute(WAIT, params![life.seq, state.number(), attempt, run_at, error, lost_runs])?;
        self.moved(life, state, attempt)?;
        if attempt == 0 && life.has_run_key {
            keys::take_run_key(self, life.seq)?;
        }
        Ok(())
    }

    /// Ends a row other than well.
    pub(super) fn end(&mut self, life: &Life, ends: Ends<'_>) -> rusqlite::Result<()> {
        let Ends { state, attempt, lost_runs, error } = ends;
        self.sql.execute(END, params![life.seq, state.number(), attempt, self.now, error, lost_runs])?;
        self.moved(life, state, attempt)?;
        self.free_keys(life)
    }

    /// Ends a new row that was refused.
    pub(super) fn reject(&mut self, seq: i64, error: &str) -> rusqlite::Result<()> {
        let (state, now) = (State::Rejected.number(), self.now);
        self.sql.execute(END, params![seq, state, 0, now, error, 0])?;
        self.sql.execute(ENTER_BADLY, [seq]).map(drop)
    }

    /// Frees the keys a row holds.
    pub(super) fn free_keys(&mut self, life: &Life) -> rusqlite::Result<()> {
        if life.has_key {
            keys::free(self, life.seq, Kind::Idempotency)?;
        }
        if life.has_run_key {
            keys::free(self, life.seq, Kind::Run)?;
        }
        Ok(())
    }

    /// Writes a run down as an attempt that ended now.
    pub(super) fn record(
        &mut self,
        life: &Life,
        outcome: AttemptOutcome,
        error: Option<&str>,
    ) -> rusqlite::Result<()> {
        let started_at = life.started_at.unwrap_or(self.now);
        let outcome = row::outcome_word(outcome);
        self.sql.execute(
            RECORD,
            params![life.seq, life.attempt, life.instance, started_at, self.now, outcome, error],
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
        for line in lines {
            let at = time::to_micros(line.at);
            log.execute(params![life.seq, at, line.level.as_str(), line.attempt, line.message])?;
        }
        Ok(())
    }
}

/// Whether a task of this state has a place among what expires, if it does.
pub(super) fn may_expire(state: State) -> bool {
    matches!(state, State::Blocked | State::Due | State::Later)
}

impl Life {
    pub(super) fn is_running_under(&self, fence: u64) -> bool {
        self.state == State::Running && i64::try_from(fence) == Ok(self.fence)
    }

    /// Whether a run under that fence was finished, and no other has begun since.
    pub(super) fn was_finished_under(&self, fence: u64) -> bool {
        i64::try_from(fence) == Ok(self.fence)
            && self.started_at.is_some()
            && !matches!(self.state, State::Running | State::Held)
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
            instance: row.get(7)?,
            run_at: row.get(8)?,
            started_at: row.get(9)?,
            has_key: row.get(10)?,
            has_run_key: row.get(11)?,
            has_concurrency_key: row.get(12)?,
            expires_at: row.get(13)?,
        })
    }
}
