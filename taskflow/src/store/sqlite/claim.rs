//! Which tasks an instance gets, and when there will be more.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::params;

use super::instance;
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
SELECT seq, queue, attempt FROM taskflow_tasks INDEXED BY taskflow_tasks_later
WHERE wake_at <= ?1 ORDER BY wake_at LIMIT ?2";

const PROMOTE: &str = "UPDATE taskflow_tasks SET state = 0, wake_at = NULL WHERE seq = ?1";

/// From the index alone.
const READY: &str = "
SELECT seq, priority, name FROM taskflow_tasks INDEXED BY taskflow_tasks_ready
WHERE state = 0 AND queue = ?1 ORDER BY priority DESC, seq";

const READ: &str = "
SELECT id, attempt, max_attempts, fence, log_lines, log_bytes, scheduled_for, run_key_held, policy, tags, args
FROM taskflow_tasks WHERE seq = ?1";

const CLAIM: &str = "
UPDATE taskflow_tasks
SET state = 3, attempt = ?2, fence = ?3, instance = ?4, lease_until = ?5, started_at = ?6, progress = NULL
WHERE seq = ?1";

const LEAVE_RUN_KEY: &str = "UPDATE taskflow_tasks SET run_key_held = NULL WHERE seq = ?1";

/// From the index alone.
const LATER: &str = "
SELECT wake_at, queue, name FROM taskflow_tasks INDEXED BY taskflow_tasks_later
WHERE wake_at > ?1 ORDER BY wake_at";

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
        let queue = tx.ledger.queue(row.get_ref(1)?.as_str()?);
        found.push((row.get::<_, i64>(0)?, queue, row.get::<_, i64>(2)?));
    }
    drop(rows);
    if found.is_empty() {
        return Ok(());
    }
    let mut promote = tx.sql.get(PROMOTE)?;
    for (seq, queue, attempt) in found {
        promote.execute([seq])?;
        tx.ledger.exit(queue, State::Later, attempt);
        tx.ledger.enter(queue, State::Due, attempt);
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
    let mut tasks = Vec::with_capacity(candidates.len());
    if candidates.is_empty() {
        return Ok(tasks);
    }
    let sql = tx.sql;
    let instance = instance::number(tx, claim.instance)?;
    let lease_until = tx.now.saturating_add(time::micros(claim.lease));
    let (mut read, mut update) = (sql.get(READ)?, sql.get(CLAIM)?);
    for Candidate { seq, slot, name, .. } in candidates {
        let queue = Arc::clone(&claim.queues[slot].0);
        let (claimed, attempt, can_be_replaced) = read.query_row([seq], |row| {
            let attempt: i64 = row.get(1)?;
            let fence: i64 = row.get(3)?;
            let claimed = Claimed {
                run: Run::new(TaskId::from_bytes(row.get(0)?), row::count(fence + 1)),
                name,
                queue,
                args: row.get(10)?,
                tags: row::tags(row.get_ref(9)?.as_str_or_null()?),
                attempt: row::small(attempt + 1),
                max_attempts: row::small(row.get(2)?),
                policy: tx.policy(row.get_ref(8)?.as_str_or_null()?),
                scheduled_for: row.get::<_, Option<i64>>(6)?.map(time::from_micros),
                log_lines: row::small(row.get(4)?),
                log_bytes: row::small(row.get(5)?),
            };
            Ok((claimed, attempt, row.get::<_, Option<i64>>(7)?.is_some()))
        })?;
        let fence = i64::try_from(claimed.run.fence).unwrap_or(i64::MAX);
        update.execute(params![seq, attempt + 1, fence, instance, lease_until, tx.now])?;
        if can_be_replaced {
            sql.execute(LEAVE_RUN_KEY, [seq])?;
        }
        let queue = tx.ledger.queue(&claimed.queue);
        tx.ledger.exit(queue, State::Due, attempt);
        tx.ledger.enter(queue, State::Running, attempt + 1);
        tasks.push(claimed);
    }
    Ok(tasks)
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
            let wake_at: i64 = row.get(0)?;
            return Ok(Some(Duration::from_micros(wake_at.abs_diff(now))));
        }
    }
    Ok(None)
}
