//! Which tasks an instance gets, and when there will be more.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::params;

use super::keys::{self, Kind};
use super::lanes::{self, Candidate};
use super::row;
use super::state::State;
use super::statements::Statements;
use super::transaction::Transaction;
use super::{due, expiry, instance, limits};
use crate::model::{TaskId, time};
use crate::store::{Claim, Claimed, Claims, Run};

/// One statement for all, since each further one costs as much as what it does. The rows come in the order of the list.
const READ: &str = "
SELECT t.seq, t.id, t.attempt, t.max_attempts, t.fence, t.scheduled_for, t.run_key IS NOT NULL, t.policy, t.tags,
       t.args, t.started_at IS NOT NULL, t.snoozes, t.concurrency_key, t.expires_at
FROM json_each(?1) AS claimed CROSS JOIN taskflow_tasks t ON t.seq = claimed.value";

const CLAIM: &str = "
UPDATE taskflow_tasks
SET state = 3, attempt = attempt + 1, fence = fence + 1, instance = ?2, lease_until = ?3, started_at = ?4,
    progress = NULL
WHERE seq IN (SELECT value FROM json_each(?1))";

const LOGGED: &str = "
SELECT count(*), coalesce(sum(length(CAST(message AS BLOB))), 0) FROM taskflow_logs WHERE task = ?1";

pub(super) fn claim(tx: &mut Transaction<'_, '_>, claim: &Claim) -> rusqlite::Result<Claims> {
    if !expiry::lapse(tx)? {
        // Nothing that has expired may be among what is claimed.
        return Ok(Claims { tasks: Vec::new(), next_due: Some(Duration::ZERO) });
    }
    let are_all_due = due::promote(tx)?;
    let known = tx.known(&claim.names);
    let (mut rooms, are_all_back) = limits::rooms(tx, claim)?;
    let (candidates, is_done) = lanes::choose(tx, &known, &mut rooms, claim.limit)?;
    let tasks = take(tx, claim, candidates)?;
    let next_start = limits::count_starts(tx, &mut rooms)?;
    let mut next_due = None;
    // Who got all it asked for asks again anyway.
    if tasks.len() < claim.limit {
        rooms.retain(|room| room.free > 0);
        let were_all_there = are_all_due && are_all_back && is_done;
        if !rooms.is_empty() && !were_all_there {
            next_due = Some(Duration::ZERO);
        } else {
            let mut queues = Vec::new();
            for room in &rooms {
                if tx.ledger.later(room.queue, tx.sql)? > 0 {
                    queues.push(Arc::clone(&claim.queues[room.slot].0));
                }
            }
            next_due = due::next_later(tx.sql, &known, &queues, tx.now)?;
        }
    }
    Ok(Claims { tasks, next_due: [next_due, next_start].into_iter().flatten().min() })
}

fn take(
    tx: &mut Transaction<'_, '_>,
    claim: &Claim,
    candidates: Vec<Candidate>,
) -> rusqlite::Result<Vec<Claimed>> {
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let sql = tx.sql;
    let seqs = row::json_list(candidates.iter().map(|candidate| candidate.seq));
    let tasks = read_all(tx, claim, candidates, &seqs)?;
    let instance = instance::number(tx, claim.instance)?;
    let lease_until = tx.now.saturating_add(time::micros(claim.lease));
    sql.execute(CLAIM, params![seqs, instance, lease_until, tx.now])?;
    Ok(tasks)
}

/// The tasks as they will be when they are claimed.
fn read_all(
    tx: &mut Transaction<'_, '_>,
    claim: &Claim,
    candidates: Vec<Candidate>,
    seqs: &str,
) -> rusqlite::Result<Vec<Claimed>> {
    let mut tasks = Vec::with_capacity(candidates.len());
    let sql = tx.sql;
    let mut read = sql.get(READ)?;
    let mut rows = read.query([seqs])?;
    for Candidate { seq, slot, queue, name } in candidates {
        let Some(row) = rows.next()? else { break };
        debug_assert_eq!(row.get(0), Ok(seq), "the rows come in the order of the list");
        let (attempt, fence): (i64, i64) = (row.get(2)?, row.get(4)?);
        // Who never ran said nothing.
        let (log_lines, log_bytes) = if row.get(10)? { logged(sql, seq)? } else { (0, 0) };
        let claimed = Claimed {
            run: Run::new(TaskId::from_bytes(row.get(1)?), row::count(fence + 1)),
            name,
            queue: Arc::clone(&claim.queues[slot].0),
            args: row.get(9)?,
            tags: row::tags(row.get_ref(8)?.as_str_or_null()?),
            attempt: row::small(attempt + 1),
            max_attempts: row::small(row.get(3)?),
            policy: tx.policy(row.get_ref(7)?.as_str_or_null()?),
            scheduled_for: row.get::<_, Option<i64>>(5)?.map(time::from_micros),
            expires_in: row.get::<_, Option<i64>>(13)?.map(|end| time::left(end, tx.now)),
            snoozes: row::small(row.get(11)?),
            log_lines,
            log_bytes,
        };
        if row.get(6)? {
            keys::free(tx, seq, Kind::Run)?;
        }
        if let Some(expires_at) = row.get(13)? {
            expiry::forget(tx, seq, expires_at)?;
        }
        match row.get_ref(12)?.as_str_or_null()? {
            Some(key) => tx.key_runs(&claimed.queue, key)?,
            None => tx.remember(claimed.run.id, seq, &claimed.queue),
        }
        tx.ledger.exit(queue, State::Due, attempt);
        tx.ledger.enter(queue, State::Running, attempt + 1);
        // Now, and when it ends.
        tx.ledger.bytes += 2 * claimed.args.len();
        tasks.push(claimed);
    }
    Ok(tasks)
}

/// The lines a task logged, and the bytes in them.
fn logged(sql: &Statements<'_>, seq: i64) -> rusqlite::Result<(u32, u32)> {
    sql.get(LOGGED)?.query_row([seq], |row| Ok((row::small(row.get(0)?), row::small(row.get(1)?))))
}
