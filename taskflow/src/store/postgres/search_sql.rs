//! What statements search, as it is bound to them; and the look for what searches miss.

use std::time::Instant;

use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::search_starts::{MOST_BELOW, Search};
use super::session::{Session, Statement};
use super::sql::moment;
use crate::model::TaskId;

/// Whether any due task waits in a queue. What is searched is bound to the given four parameters.
macro_rules! any_due {
    ($queue:literal, $queues:literal, $low:literal, $high:literal, $starts:literal) => {
        concat!(
            "EXISTS (
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
           )"
        )
    };
}
pub(super) use any_due;

impl Search {
    /// Binds the ranges, as [`any_due!`] takes them, and from when on tasks may have come due.
    pub(super) fn bind(&self, statement: Statement) -> Statement {
        self.bind_ranges(statement).bind(self.later)
    }

    /// The same, with the ids before the instant.
    pub(super) fn bind_all(&self, statement: Statement) -> Statement {
        self.bind_ranges(statement).bind(self.below.clone()).bind(self.later)
    }

    fn bind_ranges(&self, statement: Statement) -> Statement {
        statement
            .bind(self.queues.clone())
            .bind(self.low.clone())
            .bind(self.high.clone())
            .bind(self.starts.clone())
    }
}

/// Due tasks below the starts, and whether each was added since its start is known.
const BELOW: &str = "
SELECT t.id, t.attempt = 0 AND t.created_at > now() - b.age * interval '1 microsecond'
FROM unnest($1::text[], $2::smallint[], $3::bigint[], $4::bigint[]) AS b (queue, priority, start, age)
CROSS JOIN LATERAL (
    SELECT t.id, t.attempt, t.created_at FROM taskflow_tasks t
    WHERE t.state = 0 AND t.queue = b.queue AND t.priority = b.priority AND t.seq < b.start
      AND (t.expires_at IS NULL OR t.expires_at > now())
    ORDER BY t.priority DESC, t.seq LIMIT $5
) t
LIMIT $5";

/// Whether a task came due before the given instant and is not marked as due.
const LATER: &str = concat!(
    "SELECT EXISTS (SELECT 1 FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state = 1 AND ",
    moment!(),
    " < $1::timestamptz)"
);

/// Looks for due tasks below the starts, if it is time to. Claims then look them up by id. If there are many, or one that
/// was added since the start is known, a start was wrong: claims search from the beginning.
pub(super) async fn look_below(session: &mut Session<'_>) -> Result<(), Fault> {
    let (starts, began) = (session.starts, Instant::now());
    let Some((queues, priorities, from, ages)) = starts.to_look_below(began) else { return Ok(()) };
    let most = i64::try_from(MOST_BELOW).unwrap_or(i64::MAX);
    let query = session.query(BELOW).bind(queues).bind(priorities).bind(from).bind(ages).bind(most);
    let rows = session.all(query).await?;
    let mut is_wrong = rows.len() >= MOST_BELOW;
    if let Some(later) = starts.later() {
        is_wrong |= session.one(session.query(LATER).bind(later)).await?.try_get::<bool, _>(0)?;
    }
    let mut below = Vec::with_capacity(rows.len());
    for row in &rows {
        below.push(TaskId::from(row.try_get::<Uuid, _>(0)?));
        is_wrong |= row.try_get::<bool, _>(1)?;
    }
    starts.looked_below(below, is_wrong, began.elapsed());
    Ok(())
}
