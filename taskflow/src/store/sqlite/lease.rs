//! Renewal of leases, and requests to stop.

use rusqlite::params;

use super::instance;
use super::row;
use super::row_state::RowState;
use super::statements::Statements;
use super::transaction::Transaction;
use crate::model::{InstanceId, TaskId, time};
use crate::store::{Renewal, Renewed, RunRef};

const SEEN: &str = "UPDATE taskflow_instances SET seen_at = ?2 WHERE id = ?1";

const RENEW: &str = "UPDATE taskflow_tasks SET lease_until = ?2 WHERE seq = ?1";

/// Reads only the index of running and held tasks.
const ASKED_TO_STOP: &str = "
SELECT t.id, t.fence
FROM taskflow_tasks t INDEXED BY taskflow_tasks_leases
WHERE t.lease_until IS NOT NULL AND t.cancel_requested = 1
  AND t.instance = (SELECT number FROM taskflow_instances WHERE id = ?1)
ORDER BY t.seq";

pub(super) fn renew(tx: &mut Transaction<'_, '_>, renewal: &Renewal) -> rusqlite::Result<Renewed> {
    tx.sql.execute(SEEN, params![renewal.instance.as_bytes(), tx.now])?;
    let owner = instance::find(tx, renewal.instance)?;
    let lease_until = tx.now.saturating_add(time::micros(renewal.lease));
    let mut renewed = Renewed::default();
    for &run in &renewal.runs {
        let row = tx.row(run.id)?.filter(|row| {
            matches!(row.state, RowState::Held | RowState::Running)
                && i64::try_from(run.fence) == Ok(row.fence)
                && row.instance == owner
        });
        let Some(row) = row else {
            renewed.lost.push(run);
            continue;
        };
        tx.sql.execute(RENEW, [row.seq, lease_until])?;
        if row.cancel_requested {
            renewed.cancel.push(run);
        }
    }
    Ok(renewed)
}

pub(super) fn asked_to_stop(sql: &Statements<'_>, instance: InstanceId) -> rusqlite::Result<Vec<RunRef>> {
    let mut asked = sql.get(ASKED_TO_STOP)?;
    let runs = asked.query_map([instance.as_bytes()], |row| {
        Ok(RunRef::new(TaskId::from_bytes(row.get(0)?), row::to_u64(row.get(1)?)))
    })?;
    runs.collect()
}
