//! The parts that all claim statements share, with or without limits over all processes.

use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::search_starts::DueAgain;
use super::session::Session;
use super::sql::{moment, shard};
use crate::model::TaskId;

/// Marks tasks that have come due, at most 10,000 at a time.
const PROMOTE: &str = concat!(
    "
WITH due AS (
    UPDATE taskflow_tasks SET state = 0
    WHERE id = ANY (ARRAY(
        SELECT id FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state = 1 AND ",
    moment!(),
    " <= now() AND ",
    moment!(),
    " >= coalesce($1::timestamptz, '-infinity')
        ORDER BY ",
    moment!(),
    " LIMIT 10000
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING id, queue, priority, seq
), counted AS (
    INSERT INTO taskflow_counts AS c (shard, queue, later)
    SELECT ",
    shard!(),
    ", queue, -count(*) FROM due GROUP BY queue ORDER BY queue
    ON CONFLICT (shard, queue) DO UPDATE SET later = c.later + excluded.later
)
SELECT id, queue, priority, seq FROM due"
);

/// Marks tasks that have come due, in a transaction that has begun.
pub(super) async fn promote(session: &mut Session<'_>) -> Result<(), Fault> {
    let rows = session.all(session.query(PROMOTE).bind(session.starts.later())).await?;
    for row in rows {
        let id = TaskId::from(row.try_get::<Uuid, _>(0)?);
        let (queue, priority, seq) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        session.due_again.push(DueAgain::new(id, queue, priority, seq));
    }
    Ok(())
}

/// Whether a due task may be prefetched: [`RetryPolicy::may_prefetch`](crate::model::RetryPolicy::may_prefetch).
macro_rules! may_prefetch {
    () => {
        "t.lost_runs = 0 AND (t.prefetch = 2 OR t.prefetch = 1 AND t.attempt + 1 < t.max_attempts)"
    };
}
pub(super) use may_prefetch;

/// Leases the tasks of `due` at the given instant. It finds each again by its place (`ctid`), which a task keeps while
/// it is locked. A task that moved after this statement began, and was locked at its new place, is not seen there; it
/// is left for another claim.
macro_rules! take_due {
    ($at:literal) => {
        concat!(
            "claimed AS (
    UPDATE taskflow_tasks t
    SET state = 3, attempt = t.attempt + 1, fence = t.fence + 1, instance = $5::uuid, claim_id = $6::bigint,
        lease_until = (SELECT ",
            $at,
            " + $7::bigint * interval '1 microsecond'), started_at = ",
            $at,
            ", progress = NULL
    WHERE t.ctid = ANY (ARRAY(SELECT place FROM due))
    RETURNING t.id, t.fence, t.name, t.queue, t.priority, t.seq, t.attempt, t.max_attempts, t.scheduled_for,
              t.log_lines, t.log_bytes, t.policy, t.tags, t.args, t.snoozes,
              (CASE WHEN isfinite(t.expires_at) THEN extract(epoch FROM t.expires_at - now()) * 1000000
                    WHEN t.expires_at IS NOT NULL THEN -1 END)::bigint, t.trace
)"
        )
    };
}
pub(super) use take_due;

/// Adds the claimed and ended tasks to this connection's shard of the queue counts.
macro_rules! count {
    ($moves:expr) => {
        concat!(
            "counted AS (
    INSERT INTO taskflow_counts AS c (shard, queue, pending, running, success, waiting_first)
    SELECT ",
            $crate::store::postgres::sql::shard!(),
            ", queue, sum(pending), sum(running), sum(success), sum(waiting_first)
    FROM (",
            $moves,
            ") AS moves
    GROUP BY queue ORDER BY queue
    ON CONFLICT (shard, queue) DO UPDATE SET
        pending = c.pending + excluded.pending,
        running = c.running + excluded.running,
        success = c.success + excluded.success,
        waiting_first = c.waiting_first + excluded.waiting_first
)"
        )
    };
}
pub(super) use count;

/// How a claim changes the queue counts.
macro_rules! moves {
    () => {
        "
        SELECT queue, -count(*) AS pending, count(*) AS running, 0 AS success,
               -count(*) FILTER (WHERE attempt = 1) AS waiting_first
        FROM claimed GROUP BY queue"
    };
}
pub(super) use moves;

/// When the next task of these queues and names comes due. It is looked up only if the claim got fewer tasks than
/// it asked for, for another reason than a missing slot. If the next thousand tasks are all of other queues or names, this
/// is when the thousandth comes due: the caller asks again then.
macro_rules! next_due {
    () => {
        concat!(
            "coalesce(
    (SELECT run_at FROM (
        SELECT run_at, queue, name FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state = 1 AND ",
            $crate::store::postgres::sql::moment!(),
            " > now() AND ",
            $crate::store::postgres::sql::moment!(),
            " < 'infinity'
        ORDER BY ",
            $crate::store::postgres::sql::moment!(),
            " LIMIT 1000
     ) AS later
     WHERE queue = ANY($1::text[]) AND name = ANY($3::text[]) ORDER BY run_at LIMIT 1),
    (SELECT run_at FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state = 1 AND ",
            $crate::store::postgres::sql::moment!(),
            " > now() AND ",
            $crate::store::postgres::sql::moment!(),
            " < 'infinity'
     ORDER BY ",
            $crate::store::postgres::sql::moment!(),
            " OFFSET 999 LIMIT 1)
) - now()"
        )
    };
}
pub(super) use next_due;

/// One row with the values of the statement as a whole, and one row for each task. The answer would be long if each row
/// repeated those values.
macro_rules! answer {
    ($first:literal, $finished:literal, $needs_slot:literal, $met_another:expr) => {
        concat!(
            "SELECT ",
            $first,
            ", ",
            $finished,
            ",
       CASE WHEN (SELECT count(*) FROM claimed) < $4::bigint AND NOT ",
            $needs_slot,
            "
            THEN (extract(epoch FROM ",
            $crate::store::postgres::claim_sql::next_due!(),
            ") * 1000000)::bigint END,
       NULL::uuid, NULL::bigint, NULL::text, NULL::text, NULL::smallint, NULL::bigint, NULL::bigint, NULL::bigint,
       NULL::timestamptz, NULL::integer, NULL::bigint, NULL::text, NULL::text, NULL::text,
       NULL::integer, NULL::bigint, NULL::text, ",
            $needs_slot,
            ", now(),
       (extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000000)::bigint,
       (SELECT count(*) FROM claimed) < $4::bigint AND NOT ",
            $needs_slot,
            " AND ",
            $met_another,
            "
UNION ALL
SELECT NULL, NULL, NULL, claimed.*, NULL, NULL, NULL, NULL FROM claimed"
        )
    };
}

pub(super) use answer;
