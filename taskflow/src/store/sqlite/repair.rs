//! Rebuilds everything that is derived from the task rows, if it seems that another program has damaged the tables.
//!
//! It reads all rows in one transaction, so it runs only after a check found damage, or after a job failed as if there were
//! damage.

use super::damage;
use super::integrity;
use super::transaction::Transaction;

/// The number of rows that one statement checks.
const SLICE: i64 = 10_000;

/// The statements of a repair, in order. `?1` is the current time. A statement that does not need it has `AND ?1` or
/// `WHERE ?1`, which is always true, because all statements run with this one parameter.
const STEPS: &[&str] = &[
    // Exactly the runs and holds have a lease. A run without a lease would never be recovered.
    "UPDATE taskflow_tasks SET lease_until = ?1 WHERE state IN (2, 3) AND lease_until IS NULL",
    "UPDATE taskflow_tasks SET lease_until = NULL WHERE lease_until IS NOT NULL AND state NOT IN (2, 3) AND ?1",
    "UPDATE taskflow_tasks SET finished_at = ?1 WHERE state >= 4 AND finished_at IS NULL",
    // The next claim again blocks the tasks whose key is busy, and those that have expired.
    "UPDATE taskflow_tasks SET state = 0 WHERE state = -1 AND ?1",
    "DELETE FROM taskflow_blocked WHERE ?1",
    "DELETE FROM taskflow_later WHERE ?1",
    "INSERT INTO taskflow_later (run_at, task, queue, name)
     SELECT run_at, seq, queue, name FROM taskflow_tasks WHERE state = 1 AND ?1",
    "DELETE FROM taskflow_expiring WHERE ?1",
    "INSERT INTO taskflow_expiring (lapsed, expires_at, task)
     SELECT 0, expires_at, seq FROM taskflow_tasks WHERE state IN (0, 1) AND expires_at IS NOT NULL AND ?1",
    "DELETE FROM taskflow_running_keys WHERE ?1",
    "INSERT INTO taskflow_running_keys (queue, key, running)
     SELECT queue, concurrency_key, count(*) FROM taskflow_tasks
     WHERE state = 3 AND concurrency_key IS NOT NULL AND ?1 GROUP BY queue, concurrency_key",
    "DELETE FROM taskflow_ended_badly WHERE ?1",
    "INSERT INTO taskflow_ended_badly (state, id) SELECT state, id FROM taskflow_tasks WHERE state >= 5 AND ?1",
    // If several tasks have the same key, the oldest one gets it.
    "DELETE FROM taskflow_keys WHERE ?1",
    "INSERT OR IGNORE INTO taskflow_keys (key, name, kind, task)
     SELECT idempotency_key, name, 'idempotency', seq FROM taskflow_tasks
     WHERE idempotency_key IS NOT NULL AND state <= 4 AND ?1 ORDER BY seq",
    "INSERT OR IGNORE INTO taskflow_keys (key, name, kind, task)
     SELECT run_key, name, 'run', seq FROM taskflow_tasks
     WHERE run_key IS NOT NULL AND state < 3 AND attempt = 0 AND ?1 ORDER BY seq",
    "UPDATE taskflow_queues
     SET blocked = 0, due = 0, later = 0, held = 0, running = 0, success = 0, failed = 0, interrupted = 0, cancelled = 0,
         rejected = 0, waiting_first = 0, refused = max(0, min(refused, 1000000000000000)),
         key_round = max(0, min(key_round, 1000000000000)), starts = iif(json_valid(starts), starts, NULL)
     WHERE ?1",
    "INSERT INTO taskflow_queues
         (name, due, later, held, running, success, failed, interrupted, cancelled, rejected, waiting_first)
     SELECT queue, sum(state = 0), sum(state = 1), sum(state = 2), sum(state = 3), sum(state = 4), sum(state = 5),
            sum(state = 6), sum(state = 7), sum(state = 8), sum(state < 3 AND attempt = 0)
     FROM taskflow_tasks WHERE ?1 GROUP BY queue
     ON CONFLICT (name) DO UPDATE SET
         due = excluded.due, later = excluded.later, held = excluded.held, running = excluded.running,
         success = excluded.success, failed = excluded.failed, interrupted = excluded.interrupted,
         cancelled = excluded.cancelled, rejected = excluded.rejected, waiting_first = excluded.waiting_first",
    // Delete history entries whose numbers leave no room for more entries.
    "DELETE FROM taskflow_attempts WHERE n NOT BETWEEN 1 AND 1000000000 AND ?1",
    "DELETE FROM taskflow_logs WHERE n NOT BETWEEN 1 AND 1000000000 AND ?1",
    "DELETE FROM taskflow_ended_lately WHERE ended NOT BETWEEN 0 AND 1000000000000 AND ?1",
];

pub(super) fn repair(tx: &mut Transaction<'_, '_>) -> rusqlite::Result<()> {
    let mut from = 0;
    loop {
        let (flawed, last) = damage::among(tx.sql, from, SLICE)?;
        tx.fail_all_damaged(&flawed)?;
        match last {
            Some(last) => from = last,
            None => break,
        }
    }
    for step in STEPS {
        tx.sql.execute(step, [tx.now])?;
    }
    // The counts have just been rebuilt.
    tx.counts.clear();
    tx.is_suspect = false;
    tx.should_notify = true;
    tracing::warn!(
        "the tables of tasks seemed damaged, perhaps by another program; everything derived from the tasks was rebuilt"
    );
    Ok(())
}

/// Repairs the damage that a check found.
pub(super) fn repair_found(tx: &mut Transaction<'_, '_>, found: &integrity::Found) -> rusqlite::Result<()> {
    if found.is_inconsistent { repair(tx) } else { tx.fail_all_damaged(&found.flawed) }
}
