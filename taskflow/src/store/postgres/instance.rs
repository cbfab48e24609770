//! The known instances.

use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::session::Session;
use super::value::{Instant, escape_nul, unescape_nul};
use crate::model::{InstanceId, InstanceInfo, time};
use crate::store::codec;
use crate::store::hint_set::HintSet;

const JOIN: &str = "
INSERT INTO taskflow_instances (id, host, pid, version, runs, schedules)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET
    host = excluded.host, pid = excluded.pid, version = excluded.version, runs = excluded.runs,
    schedules = excluded.schedules, seen_at = now(), gone_at = NULL, sign_start = NULL";

/// Runs that the instance left behind are lost at once, because their leases end.
const LEAVE: &str = "
WITH gone AS (
    UPDATE taskflow_instances SET gone_at = now(), sign_start = NULL WHERE id = $1 AND gone_at IS NULL
)
UPDATE taskflow_tasks SET lease_until = now()
WHERE id = ANY (ARRAY(
    SELECT id FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state IN (2, 3) AND instance = $1 ORDER BY id FOR UPDATE
))";

/// Instances that renewed a lease, or only their own row, within three times their lease (at least 30 s).
const INSTANCES: &str = "
SELECT i.id, i.host, i.pid, i.version, i.runs, i.started_at, i.seen_at,
       (SELECT count(*) FROM taskflow_tasks t
        WHERE (t.state > 0) IS TRUE AND t.state = 3 AND t.instance = i.id),
       ARRAY(SELECT name FROM unnest(i.schedules) AS s (name) WHERE name IS NOT NULL)
FROM taskflow_instances i
WHERE i.gone_at IS NULL AND i.seen_at > now() - 3 * least(greatest(i.lease, interval '10 s'), interval '1 year')
ORDER BY i.started_at, i.id";

pub(super) async fn join(session: &mut Session<'_>, info: &InstanceInfo) -> Result<(), Fault> {
    let join = session
        .query(JOIN)
        .bind(Uuid::from(info.id))
        .bind(escape_nul(&info.host).into_owned())
        .bind(i64::from(info.pid))
        .bind(escape_nul(&info.version).into_owned())
        .bind(info.runs)
        .bind(info.schedules.iter().map(|name| escape_nul(name).into_owned()).collect::<Vec<_>>());
    session.execute(join).await.map(drop)
}

pub(super) async fn leave(session: &mut Session<'_>, instance: InstanceId) -> Result<(), Fault> {
    session.changes = HintSet::ALL;
    session.execute(session.query(LEAVE).bind(Uuid::from(instance))).await.map(drop)
}

pub(super) async fn instances(session: &mut Session<'_>) -> Result<Vec<InstanceInfo>, Fault> {
    let rows = session.all(session.query(INSTANCES)).await?;
    rows.iter()
        .map(|row| {
            Ok(InstanceInfo {
                id: InstanceId::from(row.try_get::<Uuid, _>(0)?),
                host: unescape_nul(row.try_get(1)?),
                pid: codec::to_u32(row.try_get(2)?),
                version: unescape_nul(row.try_get(3)?),
                runs: row.try_get(4)?,
                started_at: time::from_micros(row.try_get::<Instant, _>(5)?.0),
                seen_at: time::from_micros(row.try_get::<Instant, _>(6)?.0),
                running: codec::to_u64(row.try_get(7)?),
                schedules: row.try_get::<Vec<String>, _>(8)?.into_iter().map(unescape_nul).collect(),
            })
        })
        .collect()
}
