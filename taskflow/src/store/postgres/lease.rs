//! Renews leases, and answers which tasks the instance must stop.

use std::collections::HashMap;

use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::finish::fence;
use super::session::Session;
use super::value::length;
use crate::model::{InstanceId, TaskId};
use crate::store::{Renewal, Renewed, RunRef, codec};

/// Renews leases, and waits for no lock on a task. A locked row is being written by another transaction, most likely by
/// a finish of this very instance. Waiting for it could end in a deadlock, which the server takes a second to detect,
/// and leases could end meanwhile. The row is left for the next renewal, which comes long before its lease ends. The
/// search for lost runs skips locked rows as well.
const RENEW: &str = "
WITH seen AS (
    UPDATE taskflow_instances
    SET seen_at = now(), gone_at = NULL, lease = $2::bigint * interval '1 microsecond' WHERE id = $1
), asked AS MATERIALIZED (
    SELECT * FROM unnest($3::uuid[], $4::bigint[]) AS r (id, fence)
), free AS MATERIALIZED (
    SELECT t.place FROM asked CROSS JOIN LATERAL (
        SELECT t.ctid AS place FROM taskflow_tasks t
        WHERE t.id = asked.id AND t.fence = asked.fence AND t.instance = $1 AND t.state IN (2, 3)
        FOR UPDATE SKIP LOCKED
    ) AS t
), renewed AS (
    UPDATE taskflow_tasks SET lease_until = now() + $2::bigint * interval '1 microsecond'
    WHERE ctid = ANY (ARRAY(SELECT place FROM free))
)
SELECT t.* FROM asked CROSS JOIN LATERAL (
    SELECT t.id, t.fence, t.cancel_requested FROM taskflow_tasks t
    WHERE t.id = asked.id AND t.fence = asked.fence AND t.instance = $1 AND t.state IN (2, 3)
    OFFSET 0
) AS t";

const ASKED_TO_STOP: &str = "
SELECT id, fence FROM taskflow_tasks WHERE cancel_requested AND instance = $1 AND state = 3 ORDER BY seq";

pub(super) async fn renew(session: &mut Session<'_>, renewal: &Renewal) -> Result<Renewed, Fault> {
    let runs = &renewal.runs;
    let statement = session
        .query(RENEW)
        .bind(Uuid::from(renewal.instance))
        .bind(length(renewal.lease))
        .bind(runs.iter().map(|run| Uuid::from(run.id)).collect::<Vec<_>>())
        .bind(runs.iter().map(|run| fence(run.fence)).collect::<Vec<_>>());
    let mut held = HashMap::new();
    for row in session.all(statement).await? {
        let run = RunRef::new(TaskId::from(row.try_get::<Uuid, _>(0)?), codec::to_u64(row.try_get(1)?));
        held.insert(run, row.try_get::<bool, _>(2)?);
    }
    let mut renewed = Renewed::default();
    for run in &renewal.runs {
        match held.get(run) {
            Some(true) => renewed.cancel.push(*run),
            Some(false) => {}
            None => renewed.lost.push(*run),
        }
    }
    Ok(renewed)
}

pub(super) async fn asked_to_stop(
    session: &mut Session<'_>,
    instance: InstanceId,
) -> Result<Vec<RunRef>, Fault> {
    let query = session.query(ASKED_TO_STOP).bind(Uuid::from(instance));
    let runs = session.all(query).await?;
    runs.iter()
        .map(|row| Ok(RunRef::new(TaskId::from(row.try_get::<Uuid, _>(0)?), codec::to_u64(row.try_get(1)?))))
        .collect()
}
