//! Leases are renewed, and who renews hears whom to stop.

use std::collections::HashMap;

use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::finish::fence;
use super::session::Session;
use super::value::length;
use crate::model::{InstanceId, TaskId};
use crate::store::{Renewal, Renewed, Run, words};

/// In the order of their ids, as everybody locks rows.
const RENEW: &str = "
WITH seen AS (
    UPDATE taskflow_instances
    SET seen_at = now(), gone_at = NULL, lease = $2::bigint * interval '1 microsecond' WHERE id = $1
)
UPDATE taskflow_tasks t SET lease_until = now() + $2::bigint * interval '1 microsecond'
FROM unnest($3::uuid[], $4::bigint[]) AS r (id, fence)
WHERE t.id = r.id AND t.fence = r.fence AND t.instance = $1 AND t.state IN (2, 3)
RETURNING t.id, t.fence, t.cancel_requested";

const ASKED_TO_STOP: &str = "
SELECT id, fence FROM taskflow_tasks WHERE cancel_requested AND instance = $1 AND state = 3 ORDER BY seq";

pub(super) async fn renew(session: &mut Session<'_>, renewal: &Renewal) -> Result<Renewed, Fault> {
    let mut runs = renewal.runs.clone();
    runs.sort_unstable_by_key(|run| run.id);
    let statement = session
        .query(RENEW)
        .bind(Uuid::from(renewal.instance))
        .bind(length(renewal.lease))
        .bind(runs.iter().map(|run| Uuid::from(run.id)).collect::<Vec<_>>())
        .bind(runs.iter().map(|run| fence(run.fence)).collect::<Vec<_>>());
    let mut held = HashMap::new();
    for row in session.all(statement).await? {
        let run = Run::new(TaskId::from(row.try_get::<Uuid, _>(0)?), words::count(row.try_get(1)?));
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
) -> Result<Vec<Run>, Fault> {
    let query = session.query(ASKED_TO_STOP).bind(Uuid::from(instance));
    let runs = session.all(query).await?;
    runs.iter()
        .map(|row| Ok(Run::new(TaskId::from(row.try_get::<Uuid, _>(0)?), words::count(row.try_get(1)?))))
        .collect()
}
