//! Claims: the tasks that an instance gets, and when more will be due.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Row, params};

use super::readable::is_unreadable;
use super::ready_lists::{self, Candidate, Choice};
use super::row;
use super::row_state::RowState;
use super::statements::Statements;
use super::transaction::Transaction;
use super::unique_keys::{self, KeyKind};
use super::{due, expiring, expiry, instance, limits};
use crate::model::{TaskId, time};
use crate::store::{Claim, Claimed, Claims, RunRef};

/// Reads all tasks in one statement, because each further statement has a fixed cost. The rows come in the order of the
/// list.
const READ: &str = "
SELECT t.seq, t.id, t.attempt, t.max_attempts, t.fence, t.scheduled_for, t.run_key IS NOT NULL, t.policy, t.tags,
       t.args, t.started_at IS NOT NULL, t.snoozes, t.concurrency_key, t.expires_at, t.trace
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
        // More expired tasks remain, and none of them may be claimed: the instance must ask again at once.
        return Ok(Claims { next_due: Some(Duration::ZERO), ..Claims::default() });
    }
    let are_all_due = due::promote(tx)?;
    let known = tx.known(&claim.names);
    let (mut rooms, are_all_back) = limits::rooms(tx, claim)?;
    let Choice { chosen, is_cut_short, needs_slot } = ready_lists::choose(tx, &known, &mut rooms, claim)?;
    let tasks = take(tx, claim, chosen)?;
    let next_start = limits::count_starts(tx, &mut rooms)?;
    let mut next_due = None;
    // An instance that got all it asked for asks again anyway.
    if tasks.len() < claim.limit && !needs_slot {
        rooms.retain(|room| room.free > 0);
        let were_all_there = are_all_due && are_all_back && !is_cut_short;
        if !rooms.is_empty() && !were_all_there {
            next_due = Some(Duration::ZERO);
        } else {
            let mut queues = Vec::new();
            for room in &rooms {
                if tx.counts.later(room.queue, tx.sql)? > 0 {
                    queues.push(Arc::clone(&room.name));
                }
            }
            next_due = due::next_later(tx.sql, &known, &queues, tx.now)?;
        }
    }
    Ok(Claims { tasks, next_due: [next_due, next_start].into_iter().flatten().min(), needs_slot })
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
    let mut seqs = row::json_list(candidates.iter().map(|candidate| candidate.seq));
    let (tasks, damaged) = read_all(tx, candidates, &seqs)?;
    if !damaged.is_empty() {
        for (seq, error) in &damaged {
            tx.fail_damaged(*seq, error)?;
        }
        let mut whole: Vec<i64> = serde_json::from_str(&seqs).expect("numbers are a list");
        whole.retain(|seq| damaged.iter().all(|(damaged, _)| damaged != seq));
        seqs = row::json_list(whole.into_iter());
    }
    let instance = instance::number(tx, claim.instance)?;
    let lease_until = tx.now.saturating_add(time::micros(claim.lease));
    sql.execute(CLAIM, params![seqs, instance, lease_until, tx.now])?;
    Ok(tasks)
}

/// A row that cannot be read, and why.
type Damaged = (i64, rusqlite::Error);

/// Reads the tasks as they will be after the claim, and updates the counts and the tables of keys and of expiring tasks for
/// it. Answers the tasks, and the rows that cannot be read.
fn read_all(
    tx: &mut Transaction<'_, '_>,
    candidates: Vec<Candidate>,
    seqs: &str,
) -> rusqlite::Result<(Vec<Claimed>, Vec<Damaged>)> {
    let mut tasks = Vec::with_capacity(candidates.len());
    let mut damaged = Vec::new();
    let sql = tx.sql;
    let mut read = sql.get(READ)?;
    let mut rows = read.query([seqs])?;
    for candidate in candidates {
        let Some(row) = rows.next()? else { break };
        debug_assert_eq!(row.get(0), Ok(candidate.seq), "the rows come in the order of the list");
        let (seq, queue) = (candidate.seq, candidate.queue);
        let claimed = match read_one(tx, candidate, row) {
            Ok(claimed) => claimed,
            Err(error) if is_unreadable(&error) => {
                damaged.push((seq, error));
                continue;
            }
            Err(error) => return Err(error),
        };
        let attempt = i64::from(claimed.attempt) - 1;
        if row.get(6)? {
            unique_keys::free(tx, seq, KeyKind::Run)?;
        }
        if let Some(expires_at) = row.get(13)? {
            expiring::forget(tx, seq, expires_at)?;
        }
        match row.get_ref(12)?.as_str_or_null()? {
            Some(key) => tx.key_runs(&claimed.queue, key)?,
            None => tx.remember(claimed.run.id, seq, &claimed.queue),
        }
        tx.counts.exit(queue, RowState::Due, attempt);
        tx.counts.enter(queue, RowState::Running, attempt + 1);
        // The row is written twice: now, and when the task ends.
        tx.counts.bytes += 2 * claimed.args.len();
        tasks.push(claimed);
    }
    Ok((tasks, damaged))
}

/// Reads one task of a claim.
fn read_one(tx: &mut Transaction<'_, '_>, candidate: Candidate, row: &Row<'_>) -> rusqlite::Result<Claimed> {
    let Candidate { seq, name, queue_name: queue, .. } = candidate;
    let (attempt, fence): (i64, i64) = (row.get(2)?, row.get(4)?);
    // The concurrency key is used later, so it must be readable.
    row.get_ref(12)?.as_str_or_null()?;
    let tags =
        row::readable_tags(row.get_ref(8)?.as_str_or_null()?).map_err(|why| row::column("tags", 8, &why))?;
    // A task that never ran has no log lines.
    let (log_lines, log_bytes) = if row.get(10)? { logged(tx.sql, seq)? } else { (0, 0) };
    Ok(Claimed {
        run: RunRef::new(TaskId::from_bytes(row.get(1)?), row::to_u64(fence + 1)),
        name,
        queue,
        args: row.get(9)?,
        tags,
        trace: row::trace(row.get_ref(14)?.as_str_or_null()?),
        attempt: row::to_u32(attempt + 1),
        max_attempts: row::to_u32(row.get(3)?),
        policy: tx.policy(row, 7)?,
        scheduled_for: row.get::<_, Option<i64>>(5)?.map(time::from_micros),
        expires_in: row.get::<_, Option<i64>>(13)?.map(|end| time::left(end, tx.now)),
        snoozes: row::to_u32(row.get(11)?),
        log_lines,
        log_bytes,
    })
}

/// The number of lines that a task logged, and their total bytes.
fn logged(sql: &Statements<'_>, seq: i64) -> rusqlite::Result<(u32, u32)> {
    sql.get(LOGGED)?.query_row([seq], |row| Ok((row::to_u32(row.get(0)?), row::to_u32(row.get(1)?))))
}
