//! What is old is deleted.

use std::time::Duration;

use rusqlite::params;

use super::control::forget;
use super::row;
use super::state::State;
use super::transaction::Transaction;
use crate::model::time;

const OLD: &str = "
SELECT seq, queue, state FROM taskflow_tasks INDEXED BY taskflow_tasks_finished
WHERE finished_at <= ?1 ORDER BY finished_at LIMIT ?2";

const OLD_INSTANCES: &str = "
DELETE FROM taskflow_instances
WHERE gone_at <= ?1 AND NOT EXISTS (
    SELECT 1 FROM taskflow_tasks t INDEXED BY taskflow_tasks_leases
    WHERE t.lease_until IS NOT NULL AND t.instance = taskflow_instances.number
)";

const EMPTY_QUEUES: &str = "
DELETE FROM taskflow_queues
WHERE paused = 0 AND due = 0 AND later = 0 AND held = 0 AND running = 0 AND success = 0 AND failed = 0
  AND interrupted = 0 AND cancelled = 0 AND rejected = 0";

pub(super) fn prune(
    tx: &mut Transaction<'_, '_>,
    retention: Duration,
    limit: usize,
) -> rusqlite::Result<usize> {
    let until = tx.now.saturating_sub(time::micros(retention));
    let mut found = Vec::new();
    {
        let mut old = tx.sql.get(OLD)?;
        let mut rows = old.query(params![until, row::number(limit)])?;
        while let Some(row) = rows.next()? {
            let queue = tx.ledger.queue(row.get_ref(1)?.as_str()?);
            found.push((row.get(0)?, queue, State::from_number(row.get(2)?)));
        }
    }
    for (seq, queue, state) in &found {
        forget(tx, *seq)?;
        // An ended task waits for nothing, whatever attempts it made.
        tx.ledger.exit(*queue, *state, 1);
        tx.ledger.moves += 1;
    }
    if found.len() < limit {
        // The tasks of an instance ended before it was gone, so none that is kept names one that goes here.
        tx.sql.execute(OLD_INSTANCES, [until])?;
        // Numbers of this transaction are not written yet, so a queue that this one emptied goes next time.
        tx.sql.execute(EMPTY_QUEUES, [])?;
    }
    Ok(found.len())
}
