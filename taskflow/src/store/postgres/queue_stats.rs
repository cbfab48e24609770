//! The statistics of each queue.
//!
//! The counts are stored. The age of the oldest runnable task is looked up in the indexes. Tasks that ended in the last
//! minute are counted up to [`QueueInfo::MAX_COUNTED`].

use std::time::Duration;

use sqlx::Row;

use super::error::Fault;
use super::queue;
use super::session::Session;
use super::sql::{moment, total};
use super::value::unescape_nul;
use crate::model::{LimitsFrom, QueueInfo};
use crate::store::codec;

/// The answer counts tasks that have come due but are not marked so yet as due instead of `later`: up to 10,000, as
/// many as a claim marks at once. The oldest runnable task is one of these, the first of some priority, or the first
/// blocked task of some key: of each queue, up to 1,000 priorities and 1,000 keys are looked at.
const QUEUES: &str = concat!(
    "
WITH kept AS (
    SELECT queue, ",
    total!("pending"),
    " AS pending, ",
    total!("later"),
    " AS later, ",
    total!("running"),
    " AS running, ",
    total!("success::numeric + failed + interrupted + cancelled + rejected"),
    " AS finished, ",
    total!("refused"),
    " AS refused
    FROM taskflow_counts GROUP BY queue
), come_due AS (
    SELECT queue, count(*) AS tasks, min(greatest(run_at, created_at)) AS since
    FROM (
        SELECT queue, run_at, created_at FROM taskflow_tasks
        WHERE (state > 0) IS TRUE AND state = 1 AND ",
    moment!(),
    " <= now() ORDER BY ",
    moment!(),
    " LIMIT 10000
    ) AS d GROUP BY queue
), lately AS (
    SELECT queue, count(*) AS tasks
    FROM (
        SELECT queue FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state IN (4, 5, 6, 7, 8) AND ",
    moment!(),
    " > now() - interval '1 minute' LIMIT $1
    ) AS f GROUP BY queue
)
SELECT coalesce(k.queue, q.name), coalesce(q.paused, false), q.config, coalesce(k.pending, 0),
       greatest(greatest(coalesce(k.later, 0), 0) - coalesce(d.tasks, 0), 0), coalesce(k.running, 0), coalesce(k.finished, 0),
       coalesce(k.refused, 0), coalesce(l.tasks, 0),
       CASE WHEN isfinite(least(d.since, first.since, blocked.since))
            THEN (extract(epoch FROM now() - least(d.since, first.since, blocked.since)) * 1000000)::bigint END
FROM kept k FULL JOIN taskflow_queues q ON q.name = k.queue
LEFT JOIN come_due d ON d.queue = k.queue
LEFT JOIN lately l ON l.queue = k.queue
LEFT JOIN LATERAL (
    WITH RECURSIVE head AS (
        (SELECT t.priority, t.run_at, t.created_at FROM taskflow_tasks t
         WHERE t.state = 0 AND t.queue = k.queue ORDER BY t.queue, t.priority DESC, t.seq LIMIT 1)
        UNION ALL
        SELECT t.* FROM head h CROSS JOIN LATERAL (
            SELECT t.priority, t.run_at, t.created_at FROM taskflow_tasks t
            WHERE t.state = 0 AND t.queue = k.queue AND t.priority < h.priority
            ORDER BY t.queue, t.priority DESC, t.seq LIMIT 1
        ) t
    )
    SELECT min(greatest(run_at, created_at)) AS since FROM (SELECT * FROM head LIMIT 1000) AS heads
) AS first ON true
LEFT JOIN LATERAL (
    WITH RECURSIVE head AS (
        (SELECT t.concurrency_key, t.run_at, t.created_at FROM taskflow_tasks t
         WHERE t.state = -1 AND t.queue = k.queue AND t.concurrency_key IS NOT NULL
         ORDER BY t.queue, t.concurrency_key, t.name, t.priority DESC, t.seq LIMIT 1)
        UNION ALL
        SELECT t.* FROM head h CROSS JOIN LATERAL (
            SELECT t.concurrency_key, t.run_at, t.created_at FROM taskflow_tasks t
            WHERE t.state = -1 AND t.queue = k.queue AND t.concurrency_key > h.concurrency_key
            ORDER BY t.queue, t.concurrency_key, t.name, t.priority DESC, t.seq LIMIT 1
        ) t
    )
    SELECT min(greatest(run_at, created_at)) AS since FROM (SELECT * FROM head LIMIT 1000) AS heads
) AS blocked ON true
WHERE q.paused OR q.config IS NOT NULL OR greatest(k.pending, k.running, k.finished, k.refused) > 0
ORDER BY 1"
);

pub(super) async fn queues(session: &mut Session<'_>) -> Result<Vec<QueueInfo>, Fault> {
    // A transaction begins with settings that the connections of an application's pool do not have.
    session.begin().await?;
    let most = i64::try_from(QueueInfo::MAX_COUNTED).unwrap_or(i64::MAX);
    let rows = session.all(session.query(QUEUES).bind(most)).await?;
    rows.iter()
        .map(|row| {
            let number = |column: usize| row.try_get(column).map(codec::to_u64);
            let oldest: Option<i64> = row.try_get(9)?;
            let mut info = QueueInfo {
                paused: row.try_get(1)?,
                pending: number(3)?,
                scheduled: number(4)?,
                running: number(5)?,
                finished: number(6)?,
                rejected: number(7)?,
                finished_last_minute: number(8)?,
                oldest_waiting: oldest.map(|micros| Duration::from_micros(codec::to_u64(micros))),
                ..QueueInfo::new(unescape_nul(row.try_get(0)?))
            };
            if let Some(config) = queue::config(row.try_get(2)?) {
                info.show_limits(&config, LimitsFrom::Store);
            }
            Ok(info)
        })
        .collect()
}
