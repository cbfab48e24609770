//! Binds a search to a statement, and looks for due tasks that searches miss.

use std::time::{Duration, Instant};

use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::search_starts::{MOST_BELOW, Search};
use super::session::{Session, Statement};
use super::sql::moment;
use super::value::escape_nul;
use crate::model::TaskId;

/// Whether any due task waits in a queue. The given five parameters are the search, as `Search::bind_parts` binds it.
/// For the `+ 0` see `due!` of [`claim`](super::claim).
macro_rules! any_due {
    ($queue:literal, $queues:literal, $low:literal, $high:literal, $starts:literal, $below:literal) => {
        concat!(
            "(EXISTS (
               SELECT 1 FROM taskflow_tasks t
               WHERE t.id = ANY(",
            $below,
            "::uuid[]) AND t.state + 0 = 0 AND t.queue = ",
            $queue,
            " AND (t.expires_at IS NULL OR t.expires_at > now())
           ) OR EXISTS (
               SELECT 1 FROM unnest(",
            $queues,
            "::text[], ",
            $low,
            "::smallint[], ",
            $high,
            "::smallint[], ",
            $starts,
            "::bigint[]) AS s (queue, low, high, start) CROSS JOIN LATERAL (
                   (SELECT 1 FROM taskflow_tasks t
                    WHERE s.start IS NULL AND t.state = 0 AND t.queue = s.queue AND t.priority BETWEEN s.low AND s.high
                      AND (t.expires_at IS NULL OR t.expires_at > now()) LIMIT 1)
                   UNION ALL
                   (SELECT 1 FROM taskflow_tasks t
                    WHERE s.start IS NOT NULL AND t.state = 0 AND t.queue = s.queue AND t.priority = s.low
                      AND t.seq >= s.start AND (t.expires_at IS NULL OR t.expires_at > now()) LIMIT 1)
               ) t
               WHERE s.queue = ",
            $queue,
            "
           ))"
        )
    };
}
pub(super) use any_due;

impl Search {
    /// Binds the ranges and the ids, as [`any_due!`] takes them.
    pub(super) fn bind_parts(&self, statement: Statement) -> Statement {
        statement
            .bind(self.queues.clone())
            .bind(self.low.clone())
            .bind(self.high.clone())
            .bind(self.starts.clone())
            .bind(self.below.clone())
    }

    /// Binds the ranges and the ids, and from when on tasks may have come due.
    pub(super) fn bind(&self, statement: Statement) -> Statement {
        self.bind_parts(statement).bind(self.later)
    }
}

/// Finds due tasks below the starts. Answers also whether a start is wrong (such a task was added after its start
/// became known, or a task came due before the instant from which claims look for newly due ones), and how long the server
/// searched, in microseconds.
const BELOW: &str = concat!(
    "
WITH found AS MATERIALIZED (
    SELECT t.id, t.attempt = 0 AND t.created_at > now() - b.age * interval '1 microsecond' AS is_new
    FROM unnest($1::text[], $2::smallint[], $3::bigint[], $4::bigint[], $7::bigint[]) AS b (queue, priority, to_seq, age, from_seq)
    CROSS JOIN LATERAL (
        SELECT t.id, t.attempt, t.created_at FROM taskflow_tasks t
        WHERE t.state = 0 AND t.queue = b.queue AND t.priority = b.priority AND t.seq >= b.from_seq AND t.seq < b.to_seq
          AND t.name = ANY($8::text[]) AND (t.expires_at IS NULL OR t.expires_at > now())
        ORDER BY t.priority DESC, t.seq LIMIT $5
    ) t
    LIMIT $5
), later AS MATERIALIZED (
    SELECT EXISTS (SELECT 1 FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state = 1 AND ",
    moment!(),
    " < $6::timestamptz) AS came_due
)
SELECT coalesce(array_agg(id), '{}'), coalesce(bool_or(is_new), false) OR (SELECT came_due FROM later),
       (extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000000)::bigint
FROM found"
);

/// Looks for due tasks below the starts, if it is time to. Claims then look these tasks up by id. If there are
/// [`MOST_BELOW`] or more, or a start was wrong, claims search from the beginning again. Answers whether a claim may now
/// find a task that it did not find before.
pub(super) async fn look_below(session: &mut Session<'_>) -> Result<bool, Fault> {
    let starts = session.starts;
    let Some(looks) = starts.to_look_below(Instant::now()) else { return Ok(false) };
    let query = session
        .query(BELOW)
        .bind(looks.queues)
        .bind(looks.priorities)
        .bind(looks.to)
        .bind(looks.ages)
        .bind(i64::try_from(MOST_BELOW).unwrap_or(i64::MAX))
        .bind(looks.later)
        .bind(looks.from)
        .bind(looks.names.iter().map(|name| escape_nul(name).into_owned()).collect::<Vec<_>>());
    let began = Instant::now();
    let found = match session.one(query).await {
        Ok(found) => found,
        Err(fault) => {
            starts.could_not_look(began.elapsed());
            return Err(fault);
        }
    };
    let below: Vec<Uuid> = found.try_get(0)?;
    let is_wrong = below.len() >= MOST_BELOW || found.try_get(1)?;
    let took = Duration::from_micros(found.try_get::<i64, _>(2)?.unsigned_abs());
    let may_claim = is_wrong || !below.is_empty();
    starts.looked_below(below.into_iter().map(TaskId::from).collect(), is_wrong, took);
    Ok(may_claim)
}
