//! Tasks whose time to start is over.
//!
//! A claim that finds some *lapses* them: they are put aside, so that no claim meets them again, until a recovery ends
//! them and tells of it.

use rusqlite::{OptionalExtension, params};

use super::life::Ends;
use super::row;
use super::state::State;
use super::statements::Statements;
use super::transaction::Transaction;
use crate::model::TaskId;
use crate::store::Recovered;

/// The most tasks that one transaction lapses: some 20 ms.
const LAPSED_AT_ONCE: i64 = 2_000;

const EXPIRES: &str = "INSERT INTO taskflow_expiring (lapsed, expires_at, task) VALUES (0, ?1, ?2)";

const NO_LONGER: &str = "
DELETE FROM taskflow_expiring WHERE lapsed IN (0, 1) AND expires_at = ?1 AND task = ?2";

const EXPIRED: &str = "
SELECT task FROM taskflow_expiring WHERE lapsed = 0 AND expires_at <= ?1 ORDER BY expires_at, task LIMIT ?2";

const LAPSE: &str = "UPDATE taskflow_tasks SET state = -1 WHERE seq = ?1";

const NOTE_LAPSED: &str = "
INSERT INTO taskflow_expiring (lapsed, expires_at, task) SELECT 1, expires_at, seq FROM taskflow_tasks WHERE seq = ?1";

const OVER: &str = "
SELECT task FROM taskflow_expiring WHERE lapsed IN (0, 1) AND expires_at <= ?1 LIMIT ?2";

const WHAT: &str = "SELECT id, name FROM taskflow_tasks WHERE seq = ?1";

/// A row that is pending is not to be started later than that.
pub(super) fn expires(tx: &Transaction<'_, '_>, seq: i64, expires_at: i64) -> rusqlite::Result<()> {
    tx.sql.execute(EXPIRES, [expires_at, seq]).map(drop)
}

/// A row has been started, is held, or has ended.
pub(super) fn forget(tx: &Transaction<'_, '_>, seq: i64, expires_at: i64) -> rusqlite::Result<()> {
    tx.sql.execute(NO_LONGER, [expires_at, seq]).map(drop)
}

/// Puts aside what has expired. Answers whether that was all.
pub(super) fn lapse(tx: &mut Transaction<'_, '_>) -> rusqlite::Result<bool> {
    let expired: Vec<i64> = {
        let mut expired = tx.sql.get(EXPIRED)?;
        let rows = expired.query_map(params![tx.now, LAPSED_AT_ONCE], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    for seq in &expired {
        let Some(life) = tx.life_of(*seq)? else { continue };
        // Put aside it may be already, then for another reason.
        tx.sql.execute(LAPSE, [seq])?;
        tx.ledger.exit(life.queue, life.state, life.attempt);
        tx.ledger.enter(life.queue, State::Blocked, life.attempt);
        tx.left_state(&life, State::Blocked)?;
        tx.sql.execute(NOTE_LAPSED, [seq])?;
    }
    Ok(row::number(expired.len()) < LAPSED_AT_ONCE)
}

/// Whether there is anything to [`cancel`].
pub(super) fn is_any_over(sql: &Statements<'_>, now: i64) -> rusqlite::Result<bool> {
    sql.get(OVER)?.exists([now, 1])
}

/// Cancels up to `limit` tasks that have expired.
pub(super) fn cancel(tx: &mut Transaction<'_, '_>, limit: i64) -> rusqlite::Result<Vec<Recovered>> {
    let over: Vec<i64> = {
        let mut over = tx.sql.get(OVER)?;
        let rows = over.query_map([tx.now, limit], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let mut cancelled = Vec::with_capacity(over.len());
    for seq in over {
        let Some(life) = tx.life_of(seq)? else { continue };
        let what = tx
            .sql
            .get(WHAT)?
            .query_row([seq], |row| Ok(Recovered::from_expiry(TaskId::from_bytes(row.get(0)?), row.get(1)?)));
        cancelled.extend(what.optional()?);
        let (state, attempt, lost_runs) = (State::Cancelled, life.attempt, life.lost_runs);
        tx.end(&life, Ends { state, attempt, lost_runs, error: Recovered::EXPIRED })?;
    }
    Ok(cancelled)
}
