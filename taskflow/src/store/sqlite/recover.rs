//! Recovery of lost runs and holds, and the end of [expired](expiry) tasks.
//!
//! A run is lost when its lease has ended, or as soon as its process is found dead. In the second case, the recovery
//! ends its lease first. So both cases continue in the same way.

use std::sync::Arc;

use super::expiry;
use super::instance;
use super::lock::{Liveness, Locks};
use super::readable::{self, is_unreadable};
use super::row;
use super::statements::Statements;
use super::task_row::TaskRow;
use super::transaction::Transaction;
use crate::model::{InstanceId, TaskId, time};
use crate::store::{Recovered, transition};

/// The maximum number of lost runs, holds and expired tasks that one call moves on.
pub(super) const RECOVERED_AT_ONCE: i64 = 256;

/// The most tasks that one call leaves out because the disk has no room to write them.
pub(super) const SKIPPED_AT_MOST: i64 = 8;

/// How long an instance is considered alive after it was last seen, if its lock shows nothing. In microseconds.
const ALIVE_AFTER_SEEN: i64 = 60_000_000;

const THERE: &str = "
SELECT number, id, seen_at FROM taskflow_instances INDEXED BY taskflow_instances_there WHERE gone_at IS NULL";

const IS_THERE: &str = "SELECT 1 FROM taskflow_instances WHERE number = ?1 AND gone_at IS NULL";

const GONE: &str = "UPDATE taskflow_instances SET gone_at = ?2 WHERE number = ?1";

const LEASE_ENDED: &str = "
SELECT seq FROM taskflow_tasks INDEXED BY taskflow_tasks_leases WHERE lease_until <= ?1
ORDER BY lease_until LIMIT ?2 OFFSET ?3";

const LEASE_ENDED_NOW: &str = "
SELECT seq FROM taskflow_tasks INDEXED BY taskflow_tasks_leases WHERE lease_until = ?1 LIMIT ?2 OFFSET ?3";

const READ: &str = "SELECT id, name, policy, octet_length(args) FROM taskflow_tasks WHERE seq = ?1";

const NO_LEASE: &str = "UPDATE taskflow_tasks SET lease_until = NULL WHERE seq = ?1";

/// An instance that has not left.
#[derive(Clone, Copy, Debug)]
pub(super) struct RegisteredInstance {
    number: i64,
    pub(super) id: InstanceId,
    seen_at: i64,
}

impl RegisteredInstance {
    /// Whether the instance is alive, as far as the store knows.
    pub(super) fn lives(&self, locks: &Locks, now: i64) -> bool {
        match locks.probe(self.id) {
            Liveness::Lives => true,
            Liveness::Dead(_) => false,
            Liveness::Unknown => now.saturating_sub(self.seen_at) < ALIVE_AFTER_SEEN,
        }
    }
}

/// The instances that have not left, dead or alive.
pub(super) fn there(sql: &Statements<'_>) -> rusqlite::Result<Vec<RegisteredInstance>> {
    let mut there = sql.get(THERE)?;
    let rows = there.query_map([], |row| {
        let id = InstanceId::from_bytes(readable::id(row.get_ref(1)?));
        Ok(RegisteredInstance { number: row.get(0)?, id, seen_at: row.get(2)? })
    })?;
    rows.collect()
}

/// The dead instances, or `None` if there is nothing to recover. This only reads, and most calls end here.
pub(super) fn find_dead(
    sql: &Statements<'_>,
    locks: &Locks,
) -> rusqlite::Result<Option<Vec<RegisteredInstance>>> {
    let now = time::now_micros();
    let mut dead = there(sql)?;
    dead.retain(|it| !it.lives(locks, now));
    let is_any =
        !dead.is_empty() || sql.get(LEASE_ENDED)?.exists([now, 1, 0])? || expiry::is_any_over(sql, now)?;
    Ok(is_any.then_some(dead))
}

/// Moves on at most `most` tasks. It leaves out the first `skipped` of those whose lease has ended.
pub(super) fn recover(
    tx: &mut Transaction<'_, '_>,
    locks: &Locks,
    dead: &[RegisteredInstance],
    most: i64,
    skipped: i64,
) -> rusqlite::Result<Vec<Recovered>> {
    let mut room = most + skipped;
    for it in dead {
        // This was read outside the transaction and may have changed: another process may have been faster.
        if it.lives(locks, tx.now) || !tx.sql.get(IS_THERE)?.exists([it.number])? {
            continue;
        }
        let ended = instance::end_leases_of(tx, it.number, room)?;
        room -= ended;
        if room <= 0 {
            // It may have more leases, which the next call ends.
            break;
        }
        tx.sql.execute(GONE, [it.number, tx.now])?;
        locks.forget(it.id);
    }
    let lost: Vec<i64> = {
        // The leases of dead instances end now. Leases that ended while the file was blocked may be renewed at any
        // moment, so they are spared.
        let mut ended = tx.sql.get(if tx.was_just_blocked() { LEASE_ENDED_NOW } else { LEASE_ENDED })?;
        let rows = ended.query_map([tx.now, most, skipped], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let mut recovered = Vec::with_capacity(lost.len());
    for seq in lost {
        if let Some(row) = tx.row_of(seq)? {
            recovered.extend(move_on(tx, &row)?);
        }
    }
    let room = most - row::to_i64(recovered.len());
    recovered.extend(expiry::cancel(tx, room)?);
    tx.should_notify |= !recovered.is_empty();
    Ok(recovered)
}

fn move_on(tx: &mut Transaction<'_, '_>, row: &TaskRow) -> rusqlite::Result<Option<Recovered>> {
    let sql = tx.sql;
    if row.state.is_final() {
        // An ended row need not be readable.
        sql.execute(NO_LEASE, [row.seq])?;
        return Ok(None);
    }
    let read = sql.get(READ)?.query_row([row.seq], |row| {
        let bytes: Option<i64> = row.get(3)?;
        Ok((TaskId::from_bytes(row.get(0)?), row.get(1)?, tx.policy(row, 2)?, bytes))
    });
    let (id, name, policy, bytes) = match read {
        Err(error) if is_unreadable(&error) => {
            let failed_damaged = tx.fail_damaged(row.seq, &error)?;
            return Ok(failed_damaged
                .map(|it| Recovered::new(it.id, Arc::from(it.name), it.state.status(), Some(it.error))));
        }
        read => read?,
    };
    let task = row.task();
    let Some(change) = transition::recover(&task, &policy, fastrand::f64(), tx.now) else {
        // A waiting or ended task has no lease, unless another program wrote one.
        sql.execute(NO_LEASE, [row.seq])?;
        return Ok(None);
    };
    // The change writes the whole row.
    tx.counts.bytes += bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
    tx.apply(row, &change)?;
    Ok(Some(change.recovered(&task, id, name)))
}
