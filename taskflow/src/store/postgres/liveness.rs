//! Liveness: an advisory lock of a session that ends with its process.
//!
//! A process holds the lock `(`[`CLASS`](sign_class)`, key)` in shared mode, on the connection that renews its leases
//! (see [`lease_connection`](super::lease_connection)). It also stores the time at which the server started: locks do
//! not outlive a restart, and a server that took over never had them. A process that can take the lock in exclusive
//! mode sees that nobody holds it. Such a probe holds the lock for one statement.
//!
//! The key is 31 bits of the instance's id. If two instances have the same key, or an application uses the same lock,
//! a dead process seems to live, and its runs are recovered when their leases end.

use std::sync::Arc;
use std::time::Instant;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::error::Fault;
use super::executor::{CallKind, Shared};
use super::session::Session;
use crate::model::{InstanceId, StoreError};
use crate::store::codec;
use crate::store::suspects::Seen;

/// The first number of these locks; [`schema`](super::schema) uses the number before.
macro_rules! sign_class {
    () => {
        "1952544108"
    };
}

/// Takes the lock. If the other end of the connection vanishes, the keepalive settings make the server release the lock
/// after a minute.
const LOCK: &str = concat!(
    "
SELECT pg_try_advisory_lock_shared(",
    sign_class!(),
    ", $1), set_config('tcp_keepalives_idle', '30', false), set_config('tcp_keepalives_interval', '10', false),
    set_config('tcp_keepalives_count', '3', false)"
);

/// Stores that the instance shows its liveness, but only if the lock really belongs to this session. Behind some
/// poolers and on some servers it does not.
const SHOW: &str = concat!(
    "
UPDATE taskflow_instances SET sign = (sign & 4503599627370495) + 1, sign_key = $2, sign_start = pg_postmaster_start_time()
WHERE id = $1 AND EXISTS (
    SELECT 1 FROM pg_locks
    WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted AND objsubid = 2
      AND classid::bigint = ",
    sign_class!(),
    " AND objid::bigint = $2)"
);

const HIDE: &str = "UPDATE taskflow_instances SET sign_start = NULL WHERE id = $1";

/// Finds the instances that show their liveness, and whether the lock of each is held. `MATERIALIZED`, so that the
/// locks of other instances are not tried.
const LOOK: &str = concat!(
    "
WITH shown AS MATERIALIZED (
    SELECT id, sign, sign_key FROM taskflow_instances
    WHERE gone_at IS NULL AND sign_start = pg_postmaster_start_time() AND sign_key IS NOT NULL
)
SELECT id, sign, NOT pg_try_advisory_xact_lock(",
    sign_class!(),
    ", sign_key) FROM shown"
);

/// Ends the leases of those runs of dead instances that may be repeated. It holds the instances' locks meanwhile, so
/// that none of them can show that it lives. Rows that are being written are skipped: their leases end by themselves.
const END_LEASES: &str = concat!(
    r#"
WITH silent AS MATERIALIZED (
    SELECT i.id, i.sign
    FROM unnest($1::uuid[], $2::bigint[]) AS asked (id, sign)
    JOIN taskflow_instances i ON i.id = asked.id AND i.sign = asked.sign
    WHERE i.gone_at IS NULL AND i.sign_start = pg_postmaster_start_time()
      AND pg_try_advisory_xact_lock("#,
    sign_class!(),
    r#", i.sign_key)
), dead AS (
    UPDATE taskflow_instances i SET sign_start = NULL FROM silent
    WHERE i.id = silent.id AND i.sign = silent.sign
    RETURNING i.id, i.host, i.pid
), ended AS (
    UPDATE taskflow_tasks SET lease_until = now()
    WHERE id = ANY (ARRAY(
        SELECT t.id FROM taskflow_tasks t
        WHERE (t.state > 0) IS TRUE AND t.state = 3 AND t.instance IN (SELECT id FROM dead)
          AND (t.attempt < t.max_attempts OR t.policy LIKE '%"requeue_on_interrupt":true%')
        FOR UPDATE SKIP LOCKED
    ))
)
SELECT id, host, pid FROM dead"#
);

/// The key of an instance's lock, from the random part of its id.
fn key(instance: InstanceId) -> i32 {
    let [.., a, b, c, d] = *instance.as_bytes();
    i32::from_be_bytes([a & 0x7f, b, c, d])
}

/// Shows that this instance lives, for as long as the connection is open. If the lock cannot be taken (another
/// process is probing it, or uses it for something else), or does not belong to this session, the instance shows
/// nothing and others wait for its leases. Answers whether it is shown.
pub(super) async fn show(
    shared: &Shared,
    connection: &mut PgConnection,
    instance: InstanceId,
) -> Result<bool, Fault> {
    let mut session = Session::new(connection, &shared.sql, &shared.starts, true);
    for _ in 0..10 {
        let row = session.one(session.query(LOCK).bind(key(instance))).await?;
        if row.try_get::<bool, _>(0)? {
            let show = session.query(SHOW).bind(Uuid::from(instance)).bind(key(instance));
            if session.execute(show).await? == 1 {
                return Ok(true);
            }
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(fastrand::u64(5..25))).await;
    }
    session.execute(session.query(HIDE).bind(Uuid::from(instance))).await?;
    Ok(false)
}

/// Probes the liveness of the other processes when that is due, and ends the leases of those that are dead.
pub(super) async fn end_leases_of_the_dead(shared: &Arc<Shared>) -> Result<(), StoreError> {
    // Behind a pooler it is uncertain which sessions hold the locks.
    if !shared.listens || !shared.suspects.is_due(Instant::now()) {
        return Ok(());
    }
    let asked = Instant::now();
    let mut seen = shared.call(CallKind::Read, |session| Box::pin(probe(session))).await?;
    let answered = Instant::now();
    shared.hints.set_processes(seen.len());
    seen.retain(|seen| !shared.lease_connections.is_ours(seen));
    let dead = shared.suspects.note(asked, answered, seen);
    if dead.is_empty() {
        return Ok(());
    }
    let dead = Arc::new(dead);
    let ended = shared.call(CallKind::Write, move |session| {
        let dead = Arc::clone(&dead);
        Box::pin(async move { end_leases(session, &dead).await })
    });
    for (instance, host, pid) in ended.await? {
        shared.suspects.forget(instance);
        tracing::warn!(%instance, %host, pid, "a process is gone, or cut off from the store; tasks that may run again start elsewhere now, the others are recovered when their leases end");
    }
    Ok(())
}

async fn probe(session: &mut Session<'_>) -> Result<Vec<Seen<i64>>, Fault> {
    let rows = session.all(session.query(LOOK)).await?;
    rows.iter()
        .map(|row| {
            let instance = InstanceId::from(row.try_get::<Uuid, _>(0)?);
            Ok(Seen { instance, sign: row.try_get(1)?, is_there: row.try_get(2)? })
        })
        .collect()
}

async fn end_leases(
    session: &mut Session<'_>,
    dead: &[Seen<i64>],
) -> Result<Vec<(InstanceId, String, u32)>, Fault> {
    let query = session
        .query(END_LEASES)
        .bind(dead.iter().map(|seen| Uuid::from(seen.instance)).collect::<Vec<_>>())
        .bind(dead.iter().map(|seen| seen.sign).collect::<Vec<_>>());
    let rows = session.all(query).await?;
    rows.iter()
        .map(|row| {
            let instance = InstanceId::from(row.try_get::<Uuid, _>(0)?);
            Ok((instance, super::value::unescape_nul(row.try_get(1)?), codec::to_u32(row.try_get(2)?)))
        })
        .collect()
}
