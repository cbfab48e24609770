//! Which tasks an instance gets, and when there will be more.

use std::cmp::Reverse;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::params;

use super::instance;
use super::keys::{self, Kind};
use super::row;
use super::state::State;
use super::statements::Statements;
use super::transaction::{Known, Transaction};
use crate::model::{TaskId, time};
use crate::store::{Claim, Claimed, Claims, Run};

/// The most tasks that one transaction makes due: 10,000 that come due at one instant cost one claim some 30 ms.
const PROMOTED_AT_ONCE: i64 = 10_000;

/// The most future tasks of other queues and names that are looked at for the next one that is due.
const LOOK_AHEAD: usize = 1000;

const COME_DUE: &str = "
SELECT run_at, task, queue FROM taskflow_later WHERE run_at <= ?1 ORDER BY run_at, task LIMIT ?2";

const PROMOTE: &str = "UPDATE taskflow_tasks SET state = 0 WHERE seq = ?1";

const NO_LONGER_LATER: &str = "DELETE FROM taskflow_later WHERE run_at = ?1 AND task = ?2";

/// From the index alone.
const READY: &str = "
SELECT seq, priority, name FROM taskflow_tasks INDEXED BY taskflow_tasks_ready
WHERE state = 0 AND queue = ?1 ORDER BY priority DESC, seq";

/// One statement for all, since each further one costs as much as what it does. The rows come in the order of the list.
const READ: &str = "
SELECT t.seq, t.id, t.attempt, t.max_attempts, t.fence, t.scheduled_for, t.run_key IS NOT NULL, t.policy, t.tags,
       t.args, t.started_at IS NOT NULL
FROM json_each(?1) AS claimed CROSS JOIN taskflow_tasks t ON t.seq = claimed.value";

const CLAIM: &str = "
UPDATE taskflow_tasks
SET state = 3, attempt = attempt + 1, fence = fence + 1, instance = ?2, lease_until = ?3, started_at = ?4,
    progress = NULL
WHERE seq IN (SELECT value FROM json_each(?1))";

const LOGGED: &str = "
SELECT count(*), coalesce(sum(length(CAST(message AS BLOB))), 0) FROM taskflow_logs WHERE task = ?1";

const LATER: &str = "
SELECT run_at, queue, name FROM taskflow_later WHERE run_at > ?1 ORDER BY run_at, task";

/// A due task that may be claimed.
struct Candidate {
    seq: i64,
    priority: i64,
    /// Which of the queues asked for.
    slot: usize,
    name: Arc<str>,
}

pub(super) fn claim(tx: &mut Transaction<'_, '_>, claim: &Claim) -> rusqlite::Result<Claims> {
    promote(tx)?;
    let known = tx.known(&claim.names);
    let candidates = candidates(tx, claim, &known)?;
    let mut taken = vec![0_usize; claim.queues.len()];
    for candidate in &candidates {
        taken[candidate.slot] += 1;
    }
    let tasks = take(tx, claim, candidates)?;
    // Who got all it asked for asks again anyway.
    let mut next_due = None;
    if tasks.len() < claim.limit {
        let mut queues = Vec::new();
        for ((queue, free), taken) in claim.queues.iter().zip(taken) {
            let number = tx.ledger.queue(queue);
            if taken < *free && tx.ledger.later(number, tx.sql)? > 0 {
                queues.push(Arc::clone(queue));
            }
        }
        next_due = next_later(tx.sql, &known, &queues, tx.now)?;
    }
    Ok(Claims { tasks, next_due })
}

/// Makes due what has come due.
pub(super) fn promote(tx: &mut Transaction<'_, '_>) -> rusqlite::Result<()> {
    let mut come_due = tx.sql.get(COME_DUE)?;
    let mut rows = come_due.query([tx.now, PROMOTED_AT_ONCE])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let queue = tx.ledger.queue(row.get_ref(2)?.as_str()?);
        found.push((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, queue));
    }
    drop(rows);
    if found.is_empty() {
        return Ok(());
    }
    let (mut promote, mut forget) = (tx.sql.get(PROMOTE)?, tx.sql.get(NO_LONGER_LATER)?);
    for (run_at, seq, queue) in found {
        promote.execute([seq])?;
        forget.execute([run_at, seq])?;
        // Whatever attempts it made: whether it waits for the first does not change.
        tx.ledger.exit(queue, State::Later, 0);
        tx.ledger.enter(queue, State::Due, 0);
    }
    Ok(())
}

/// The tasks that are to be claimed, first to last.
fn candidates(
    tx: &mut Transaction<'_, '_>,
    claim: &Claim,
    known: &Known,
) -> rusqlite::Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    let mut queues_with_work = 0;
    for (slot, (queue, free)) in claim.queues.iter().enumerate() {
        let wanted = (*free).min(claim.limit);
        let number = tx.ledger.queue(queue);
        if wanted == 0 || tx.ledger.due(number, tx.sql)? == 0 || tx.ledger.is_paused(number, tx.sql)? {
            continue;
        }
        queues_with_work += 1;
        let (mut ready, mut found) = (tx.sql.get(READY)?, 0);
        let mut rows = ready.query([&**queue])?;
        while found < wanted
            && let Some(row) = rows.next()?
        {
            // Tasks that nobody here knows are left for an instance that does.
            if let Some(name) = known.get(row.get_ref(2)?.as_str()?) {
                let name = Arc::clone(name);
                candidates.push(Candidate { seq: row.get(0)?, priority: row.get(1)?, slot, name });
                found += 1;
            }
        }
    }
    if queues_with_work > 1 {
        candidates.sort_unstable_by_key(|candidate| (Reverse(candidate.priority), candidate.seq));
        candidates.dedup_by_key(|candidate| candidate.seq);
        candidates.truncate(claim.limit);
    }
    Ok(candidates)
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
    let seqs = json_list(&candidates);
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
    for Candidate { seq, slot, name, .. } in candidates {
        let Some(row) = rows.next()? else { break };
        debug_assert_eq!(row.get(0), Ok(seq), "the rows come in the order of the list");
        let (attempt, fence): (i64, i64) = (row.get(2)?, row.get(4)?);
        // Who never ran said nothing.
        let (log_lines, log_bytes) = if row.get(10)? { logged(sql, seq)? } else { (0, 0) };
        let claimed = Claimed {
            snoozes: 0,
            run: Run::new(TaskId::from_bytes(row.get(1)?), row::count(fence + 1)),
            name,
            queue: Arc::clone(&claim.queues[slot].0),
            args: row.get(9)?,
            tags: row::tags(row.get_ref(8)?.as_str_or_null()?),
            attempt: row::small(attempt + 1),
            max_attempts: row::small(row.get(3)?),
            policy: tx.policy(row.get_ref(7)?.as_str_or_null()?),
            scheduled_for: row.get::<_, Option<i64>>(5)?.map(time::from_micros),
            log_lines,
            log_bytes,
        };
        if row.get(6)? {
            keys::free(tx, seq, Kind::Run)?;
        }
        let queue = tx.ledger.queue(&claimed.queue);
        tx.ledger.exit(queue, State::Due, attempt);
        tx.ledger.enter(queue, State::Running, attempt + 1);
        // Now, and when it ends.
        tx.ledger.bytes += 2 * claimed.args.len();
        tx.remember(claimed.run.id, seq, &claimed.queue);
        tasks.push(claimed);
    }
    Ok(tasks)
}

/// The lines a task logged, and the bytes in them.
fn logged(sql: &Statements<'_>, seq: i64) -> rusqlite::Result<(u32, u32)> {
    sql.get(LOGGED)?.query_row([seq], |row| Ok((row::small(row.get(0)?), row::small(row.get(1)?))))
}

fn json_list(candidates: &[Candidate]) -> String {
    let mut list = String::with_capacity(candidates.len() * 8 + 2);
    for candidate in candidates {
        list.push(if list.is_empty() { '[' } else { ',' });
        // Writing to a string cannot fail.
        let _ = write!(list, "{}", candidate.seq);
    }
    list.push(']');
    list
}

/// How long until the first task of these names and queues is due that is not yet. Where a thousand others come first,
/// how long until then: to be asked again.
pub(super) fn next_later(
    sql: &Statements<'_>,
    known: &Known,
    queues: &[Arc<str>],
    now: i64,
) -> rusqlite::Result<Option<Duration>> {
    if queues.is_empty() {
        return Ok(None);
    }
    let mut later = sql.get(LATER)?;
    let (mut rows, mut looked_at) = (later.query([now])?, 0);
    while let Some(row) = rows.next()? {
        looked_at += 1;
        let queue = row.get_ref(1)?.as_str()?;
        let is_meant =
            queues.iter().any(|one| **one == *queue) && known.get(row.get_ref(2)?.as_str()?).is_some();
        if is_meant || looked_at >= LOOK_AHEAD {
            let run_at: i64 = row.get(0)?;
            return Ok(Some(Duration::from_micros(run_at.abs_diff(now))));
        }
    }
    Ok(None)
}
