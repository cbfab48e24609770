//! Which tasks an instance gets, and when there will be more.
//!
//! A claim is one statement, and so is a turn whose runs all went well: what ended, what begins, and the numbers of both.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::claimed::{claims, says};
use super::damage::{self, Damage};
use super::error::Fault;
use super::finish::{Successes, end_well};
use super::limits;
use super::session::{Session, Statement};
use super::sql::moment;
use super::value::{keep, length};
use crate::store::{Claim, Claims, Finish, FinishKind, Finished, words};

/// Marks tasks that have come due; 10,000 at a time.
pub(super) const PROMOTE: &str = concat!(
    "
WITH due AS (
    UPDATE taskflow_tasks SET state = 0
    WHERE id = ANY (ARRAY(
        SELECT id FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state = 1 AND ",
    moment!(),
    " <= now()
        ORDER BY ",
    moment!(),
    " LIMIT 10000
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING queue
)
INSERT INTO taskflow_counts AS c (shard, queue, later)
SELECT pg_backend_pid() % 1024, queue, -count(*) FROM due GROUP BY queue ORDER BY queue
ON CONFLICT (shard, queue) DO UPDATE SET later = c.later + excluded.later"
);

/// Something that must be done before the statement does anything, and so it does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// Tasks have come due that are not marked so: they may be more urgent than those that are.
    Promote = 1,
    /// Concurrency keys are at work: rows of queues must be locked before those of tasks.
    Lock = 2,
}

/// What must be done first, if `$8` says that this matters. The order of the second is there so that it is answered from
/// the small index of running tasks with a key.
macro_rules! first {
    ($keyed:literal) => {
        concat!(
            "first AS MATERIALIZED (
    SELECT (CASE
        WHEN NOT $8::boolean THEN 0",
            $keyed,
            "
        WHEN EXISTS (
            SELECT 1 FROM (SELECT name FROM taskflow_queues WHERE key_limit IS NOT NULL OFFSET 0) q
            WHERE q.name = ANY($1::text[])
        ) THEN 2
        WHEN EXISTS (SELECT 1 FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state = 1 AND ",
            moment!(),
            " <= now()) THEN 1
        ELSE 0
    END)::smallint AS what
)"
        )
    };
}

/// Whether a due task may be prefetched: [`RetryPolicy::may_prefetch`](crate::model::RetryPolicy::may_prefetch).
macro_rules! may_prefetch {
    () => {
        "t.lost_runs = 0 AND (t.prefetch = 2 OR t.prefetch = 1 AND t.attempt + 1 < t.max_attempts)"
    };
}
pub(super) use may_prefetch;

/// The due tasks that may be taken: up to the first that may not be prefetched and finds no free slot. Of many queues
/// most are empty: rather than to look into each, the index is gone along from queue to queue in which a task is due.
macro_rules! due {
    () => {
        concat!(
            "asked AS MATERIALIZED (
    SELECT a.queue, a.free, a.prefetch FROM unnest($1::text[], $2::bigint[], $10::boolean[]) AS a (queue, free, prefetch)
    WHERE (SELECT what FROM first) = 0
      AND (cardinality($1::text[]) <= 32 OR a.queue IN (
          WITH RECURSIVE busy AS (
              (SELECT t.queue FROM taskflow_tasks t WHERE t.state = 0 ORDER BY t.queue, t.priority DESC, t.seq LIMIT 1)
              UNION ALL
              SELECT t.queue FROM busy b CROSS JOIN LATERAL (
                  SELECT t.queue FROM taskflow_tasks t WHERE t.state = 0 AND t.queue > b.queue
                  ORDER BY t.queue, t.priority DESC, t.seq LIMIT 1
              ) t
          )
          SELECT queue FROM busy
      ))
      AND NOT EXISTS (SELECT 1 FROM taskflow_queues p WHERE p.name = a.queue AND p.paused)
), ordered AS MATERIALIZED (
    SELECT t.place, t.may_prefetch, row_number() OVER (ORDER BY t.priority DESC, t.seq) AS n
    FROM asked CROSS JOIN LATERAL (
        SELECT t.ctid AS place, t.priority, t.seq, asked.prefetch AND ",
            may_prefetch!(),
            " AS may_prefetch
        FROM taskflow_tasks t
        WHERE t.state = 0 AND t.queue = asked.queue AND t.name = ANY($3::text[])
          AND (t.expires_at IS NULL OR t.expires_at > now())
        ORDER BY t.priority DESC, t.seq LIMIT asked.free FOR UPDATE SKIP LOCKED
    ) t
    ORDER BY n LIMIT $4::bigint
), stop AS MATERIALIZED (
    SELECT min(n) AS at FROM ordered WHERE n > $9::bigint AND NOT may_prefetch
), due AS MATERIALIZED (
    SELECT place FROM ordered WHERE n < coalesce((SELECT at FROM stop), n + 1)
)"
        )
    };
}

/// Leases those tasks at that instant. What is taken is found again by its place, which it keeps while it is locked. One
/// that was moved after this statement began, and locked where it is now, is not seen there and is left for another claim.
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
                    WHEN t.expires_at IS NOT NULL THEN -1 END)::bigint
)"
        )
    };
}
pub(super) use take_due;

/// Adds what moved to this connection's shard.
macro_rules! count {
    ($moves:expr) => {
        concat!(
            "counted AS (
    INSERT INTO taskflow_counts AS c (shard, queue, pending, running, success, waiting_first)
    SELECT pg_backend_pid() % 1024, queue, sum(pending), sum(running), sum(success), sum(waiting_first)
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

/// What a claim moves.
macro_rules! moves {
    () => {
        "
        SELECT queue, -count(*) AS pending, count(*) AS running, 0 AS success,
               -count(*) FILTER (WHERE attempt = 1) AS waiting_first
        FROM claimed GROUP BY queue"
    };
}
pub(super) use moves;

/// When the next task of these queues and names will be due, if the claim was not given all it asked for. Where a
/// thousand others come first, when the last of those will be: to be asked again.
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

/// One row with what the statement says as a whole, which would be long if each row repeated it, and one for each task.
macro_rules! answer {
    ($first:literal, $finished:literal, $needs_slot:literal) => {
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
            $crate::store::postgres::claim::next_due!(),
            ") * 1000000)::bigint END,
       NULL::uuid, NULL::bigint, NULL::text, NULL::text, NULL::smallint, NULL::bigint, NULL::bigint, NULL::bigint,
       NULL::timestamptz, NULL::integer, NULL::bigint, NULL::text, NULL::text, NULL::text,
       NULL::integer, NULL::bigint, ",
            $needs_slot,
            "
UNION ALL
SELECT NULL, NULL, NULL, claimed.*, NULL FROM claimed"
        )
    };
}

pub(super) use answer;

const CLAIM: &str = concat!(
    "WITH ",
    first!(""),
    ", ",
    due!(),
    ", ",
    take_due!("now()"),
    ", ",
    count!(moves!()),
    answer!("(SELECT what FROM first)", "NULL::uuid[]", "((SELECT at FROM stop) IS NOT NULL)")
);

/// Ends runs well and takes due tasks.
const TURN: &str = concat!(
    "WITH ",
    first!(
        "
        WHEN (
            SELECT queue FROM taskflow_tasks WHERE state = 3 AND concurrency_key IS NOT NULL
            ORDER BY queue, concurrency_key LIMIT 1
        ) IS NOT NULL AND EXISTS (
            SELECT 1 FROM taskflow_tasks WHERE id = ANY($11::uuid[]) AND state = 3 AND concurrency_key IS NOT NULL
        ) THEN 2"
    ),
    ", ",
    end_well!("$11::uuid[]", "$12::bigint[]", "$13::text[]", "(SELECT what FROM first) = 0"),
    ", ",
    due!(),
    ", ",
    take_due!("now()"),
    ", ",
    count!(concat!(
        "
        SELECT queue, 0 AS pending, -count(*) AS running, count(*) AS success, 0 AS waiting_first
        FROM ended GROUP BY queue
        UNION ALL",
        moves!()
    )),
    answer!(
        "(SELECT what FROM first)",
        "(SELECT array_agg(id) FROM ended)",
        "((SELECT at FROM stop) IS NOT NULL)"
    )
);

/// A claim as it is bound to a statement.
pub(super) struct Asked {
    pub(super) queues: Vec<AskedQueue>,
    pub(super) limit: i64,
    /// How many of them find a free slot.
    pub(super) slots: i64,
    /// Names the leases of this very claim, should its answer be lost.
    pub(super) claim_id: i64,
}

/// What became of the ends, what was claimed, and what was leased and cannot be run.
pub(super) type Taken = (Vec<Finished>, Claims, Vec<Damage>);

/// A queue of a claim.
pub(super) struct AskedQueue {
    pub(super) name: Arc<str>,
    /// So many tasks still.
    pub(super) free: i64,
    pub(super) prefetch: bool,
}

pub(super) async fn claim(session: &mut Session<'_>, claim: &Claim, claim_id: i64) -> Result<Claims, Fault> {
    let (_, claims, damaged) = take(session, &[], claim, claim_id).await?;
    damage::fail_claimed(session, damaged).await?;
    Ok(claims)
}

pub(super) async fn turn(
    session: &mut Session<'_>,
    finishes: &[Finish],
    claim: &Claim,
    claim_id: i64,
) -> Result<(Vec<Finished>, Claims), Fault> {
    let (finished, claims, damaged) = match are_plain(finishes) {
        true => take(session, finishes, claim, claim_id).await?,
        false => limits::turn(session, finishes, claim, claim_id).await?,
    };
    damage::fail_claimed(session, damaged).await?;
    Ok((finished, claims))
}

/// Whether one statement can apply them all: each ends a task of its own well and has nothing else to say.
pub(super) fn are_plain(finishes: &[Finish]) -> bool {
    let mut seen = HashSet::with_capacity(finishes.len());
    finishes.iter().all(|finish| {
        matches!(finish.kind, FinishKind::Success { .. })
            && finish.lines.is_empty()
            && finish.progress.is_none()
            && seen.insert(finish.run.id)
    })
}

async fn take(
    session: &mut Session<'_>,
    finishes: &[Finish],
    claim: &Claim,
    claim_id: i64,
) -> Result<Taken, Fault> {
    if claim.limits.iter().any(|(_, limits)| limits.any()) {
        return limits::turn(session, finishes, claim, claim_id).await;
    }
    let asked = Asked::new(claim, claim_id);
    let successes = Successes::of(finishes);
    let statement = |session: &Session<'_>, minds_what_is_first: bool| {
        let text = if finishes.is_empty() { CLAIM } else { TURN };
        let statement = asked.bind(session.query(text), claim, minds_what_is_first);
        if finishes.is_empty() { statement } else { successes.bind(statement) }
    };
    let mut rows = session.all(statement(session, true)).await?;
    match says::<i16>(&rows, 0)? {
        Some(first) if first == First::Lock as i16 => {
            return limits::turn(session, finishes, claim, claim_id).await;
        }
        Some(first) if first == First::Promote as i16 => {
            session.begin().await?;
            session.execute(session.query(PROMOTE)).await?;
            rows = session.all(statement(session, false)).await?;
        }
        _ => {}
    }
    let mut finished = successes.answers(says(&rows, 1)?.unwrap_or_default());
    session.is_news |= finished.iter().any(|it| matches!(it, Finished::Applied(_)));
    successes.recognise_repeated(session, &mut finished).await?;
    let (claims, damaged) = claims(claim, &rows)?;
    Ok((finished, claims, damaged))
}

impl Asked {
    pub(super) fn new(claim: &Claim, claim_id: i64) -> Self {
        let (limit, slots) = (words::number(claim.limit), words::number(claim.slots()));
        let mut queues: BTreeMap<Arc<str>, AskedQueue> = BTreeMap::new();
        for queue in claim.queues.iter().filter(|queue| queue.limit > 0 && limit > 0) {
            let free = words::number(queue.limit).min(limit);
            let asked = AskedQueue { name: Arc::clone(&queue.name), free, prefetch: queue.prefetch };
            queues.insert(Arc::clone(&queue.name), asked);
        }
        Self { queues: queues.into_values().collect(), limit, slots, claim_id }
    }

    fn bind(&self, statement: Statement, claim: &Claim, minds_what_is_first: bool) -> Statement {
        statement
            .bind(self.queues.iter().map(|queue| keep(&queue.name)).collect::<Vec<_>>())
            .bind(self.queues.iter().map(|queue| queue.free).collect::<Vec<_>>())
            .bind(claim.names.iter().map(|name| keep(name)).collect::<Vec<_>>())
            .bind(self.limit)
            .bind(Uuid::from(claim.instance))
            .bind(self.claim_id)
            .bind(length(claim.lease))
            .bind(minds_what_is_first)
            .bind(self.slots)
            .bind(self.queues.iter().map(|queue| queue.prefetch).collect::<Vec<_>>())
    }
}
