//! Which tasks an instance gets, and when there will be more.
//!
//! A claim is one statement, and so is a turn whose runs all went well: what ended, what begins, and the numbers of both.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::error::Fault;
use super::finish::{self, Successes};
use super::session::{Session, Statement};
use super::value::{Instant, give, keep, length};
use crate::model::{RetryPolicy, TaskId, time};
use crate::store::{Claim, Claimed, Claims, Finish, FinishKind, Finished, Run, words};

/// Marks tasks that have come due; 10,000 at a time.
const PROMOTE: &str = "
UPDATE taskflow_tasks SET state = 0
WHERE id = ANY (ARRAY(
    SELECT id FROM taskflow_tasks WHERE state = 1 AND run_at <= now() ORDER BY run_at LIMIT 10000
    FOR UPDATE SKIP LOCKED
))";

/// Whether some tasks have come due that are not marked so, and `$8` says that this matters: they may be more urgent than
/// those that are marked, so nothing is done until they are marked as well.
macro_rules! come_due {
    () => {
        "come_due AS MATERIALIZED (
    SELECT $8::boolean AND EXISTS (SELECT 1 FROM taskflow_tasks WHERE state = 1 AND run_at <= now()) AS is_so
)"
    };
}

/// Takes due tasks. What is taken is found again by its id through an array, for which every plan
/// uses the index, however little the planner knows.
macro_rules! take {
    () => {
        "asked AS MATERIALIZED (
    SELECT a.queue, a.free FROM unnest($1::text[], $2::bigint[]) AS a (queue, free)
    WHERE NOT (SELECT is_so FROM come_due)
      AND NOT EXISTS (SELECT 1 FROM taskflow_queues p WHERE p.name = a.queue AND p.paused)
), due AS MATERIALIZED (
    SELECT t.id
    FROM asked CROSS JOIN LATERAL (
        SELECT t.id, t.priority, t.seq FROM taskflow_tasks t
        WHERE t.state = 0 AND t.queue = asked.queue AND t.name = ANY($3::text[])
        ORDER BY t.priority DESC, t.seq LIMIT asked.free FOR UPDATE SKIP LOCKED
    ) t
    ORDER BY t.priority DESC, t.seq LIMIT $4::bigint
), claimed AS (
    UPDATE taskflow_tasks t
    SET state = 3, attempt = t.attempt + 1, fence = t.fence + 1, instance = $5::uuid, claim_id = $6::bigint,
        lease_until = now() + $7::bigint * interval '1 microsecond', started_at = now(), progress = NULL
    WHERE t.id = ANY (ARRAY(SELECT id FROM due))
    RETURNING t.id, t.fence, t.name, t.queue, t.priority, t.seq, t.attempt, t.max_attempts, t.scheduled_for,
              t.log_lines, t.log_bytes, t.policy, t.tags, t.args
)"
    };
}

/// Adds what moved to this connection's shard.
macro_rules! count {
    ($moves:literal) => {
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

/// When the next task of these queues and names will be due, if the claim was not given all it asked for. Where a
/// thousand others come first, when the last of those will be: to be asked again.
macro_rules! next_due {
    () => {
        "coalesce(
    (SELECT run_at FROM (
        SELECT run_at, queue, name FROM taskflow_tasks WHERE state = 1 AND run_at > now() ORDER BY run_at LIMIT 1000
     ) AS later
     WHERE queue = ANY($1::text[]) AND name = ANY($3::text[]) ORDER BY run_at LIMIT 1),
    (SELECT run_at FROM taskflow_tasks WHERE state = 1 AND run_at > now() ORDER BY run_at OFFSET 999 LIMIT 1)
) - now()"
    };
}

/// One row with what the statement says as a whole, which would be long if each row repeated it, and one for each task.
macro_rules! answer {
    ($finished:literal) => {
        concat!(
            "SELECT (SELECT is_so FROM come_due), ",
            $finished,
            ",
       CASE WHEN (SELECT count(*) FROM claimed) < $4::bigint
            THEN (extract(epoch FROM ",
            next_due!(),
            ") * 1000000)::bigint END,
       NULL::uuid, NULL::bigint, NULL::text, NULL::text, NULL::smallint, NULL::bigint, NULL::bigint, NULL::bigint,
       NULL::timestamptz, NULL::integer, NULL::bigint, NULL::text, NULL::text, NULL::text
UNION ALL
SELECT NULL, NULL, NULL, claimed.* FROM claimed"
        )
    };
}

const CLAIM: &str = concat!(
    "WITH ",
    come_due!(),
    ", ",
    take!(),
    ", ",
    count!(
        "
        SELECT queue, -count(*) AS pending, count(*) AS running, 0 AS success,
               -count(*) FILTER (WHERE attempt = 1) AS waiting_first
        FROM claimed GROUP BY queue"
    ),
    answer!("NULL::bigint[]")
);

/// Ends runs well and takes due tasks.
const TURN: &str = concat!(
    "WITH ",
    come_due!(),
    ", ended AS (
    UPDATE taskflow_tasks t
    SET state = 4, finished_at = now(), result = f.result, lease_until = NULL, error = NULL, lost_runs = 0,
        cancel_requested = false
    FROM unnest($9::uuid[], $10::bigint[], $11::text[]) WITH ORDINALITY AS f (id, fence, result, n)
    WHERE t.id = f.id AND t.fence = f.fence AND t.state = 3 AND NOT (SELECT is_so FROM come_due)
    RETURNING f.n, t.queue
), ",
    take!(),
    ", ",
    count!(
        "
        SELECT queue, 0 AS pending, -count(*) AS running, count(*) AS success, 0 AS waiting_first
        FROM ended GROUP BY queue
        UNION ALL
        SELECT queue, -count(*), count(*), 0, -count(*) FILTER (WHERE attempt = 1) FROM claimed GROUP BY queue"
    ),
    answer!("(SELECT array_agg(n) FROM ended)")
);

const NEXT_DUE: &str =
    concat!("SELECT (extract(epoch FROM ", next_due!(), ") * 1000000)::bigint, $2::bigint");

/// A claim as it is bound to a statement.
struct Asked {
    queues: Vec<(Arc<str>, i64)>,
    limit: i64,
    /// Names the leases of this very claim, should its answer be lost.
    claim_id: i64,
}

pub(super) async fn claim(session: &mut Session<'_>, claim: &Claim, claim_id: i64) -> Result<Claims, Fault> {
    Ok(take(session, &[], claim, claim_id).await?.1)
}

pub(super) async fn turn(
    session: &mut Session<'_>,
    finishes: &[Finish],
    claim: &Claim,
    claim_id: i64,
) -> Result<(Vec<Finished>, Claims), Fault> {
    if are_plain(finishes) {
        return take(session, finishes, claim, claim_id).await;
    }
    session.begin().await?;
    let finished = finish::finish(session, finishes).await?;
    Ok((finished, take(session, &[], claim, claim_id).await?.1))
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
) -> Result<(Vec<Finished>, Claims), Fault> {
    let asked = Asked::new(claim, claim_id);
    let successes = Successes::of(finishes);
    let statement = |session: &Session<'_>, minds_come_due: bool| {
        let text = if finishes.is_empty() { CLAIM } else { TURN };
        let statement = asked.bind(session.query(text), claim, minds_come_due);
        if finishes.is_empty() { statement } else { successes.bind(statement) }
    };
    let mut rows = session.all(statement(session, true)).await?;
    if says(&rows, 0)?.unwrap_or(false) {
        session.begin().await?;
        session.execute(session.query(PROMOTE)).await?;
        rows = session.all(statement(session, false)).await?;
    }
    let finished = successes.answers(says(&rows, 1)?.unwrap_or_default());
    session.is_news |= finished.iter().any(|it| *it != Finished::Stale);
    Ok((finished, claims(claim, &rows)?))
}

impl Asked {
    fn new(claim: &Claim, claim_id: i64) -> Self {
        let limit = words::number(claim.limit);
        let mut queues: BTreeMap<Arc<str>, i64> = BTreeMap::new();
        for (queue, free) in claim.queues.iter().filter(|(_, free)| *free > 0 && limit > 0) {
            queues.insert(Arc::clone(queue), words::number(*free).min(limit));
        }
        Self { queues: queues.into_iter().collect(), limit, claim_id }
    }

    fn bind(&self, statement: Statement, claim: &Claim, minds_come_due: bool) -> Statement {
        statement
            .bind(self.queues.iter().map(|(queue, _)| keep(queue)).collect::<Vec<_>>())
            .bind(self.queues.iter().map(|(_, free)| *free).collect::<Vec<_>>())
            .bind(claim.names.iter().map(|name| keep(name)).collect::<Vec<_>>())
            .bind(self.limit)
            .bind(Uuid::from(claim.instance))
            .bind(self.claim_id)
            .bind(length(claim.lease))
            .bind(minds_come_due && !self.queues.is_empty())
    }
}

/// A column of the row that speaks for the statement as a whole.
fn says<'r, T>(rows: &'r [PgRow], column: usize) -> Result<Option<T>, Fault>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    for row in rows {
        if row.try_get::<Option<bool>, _>(0)?.is_some() {
            return Ok(row.try_get(column)?);
        }
    }
    Ok(None)
}

fn claims(claim: &Claim, rows: &[PgRow]) -> Result<Claims, Fault> {
    let mut words = Words::of(claim);
    let mut tasks = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(id) = row.try_get::<Option<Uuid>, _>(3)? {
            let place = (Reverse(row.try_get::<i16, _>(7)?), row.try_get::<i64, _>(8)?);
            tasks.push((place, words.claimed(TaskId::from(id), row)?));
        }
    }
    tasks.sort_unstable_by_key(|(place, _)| *place);
    let next_due: Option<i64> = says(rows, 2)?;
    let next_due = next_due.map(|micros| Duration::from_micros(words::count(micros)));
    Ok(Claims { tasks: tasks.into_iter().map(|(_, task)| task).collect(), next_due })
}

/// Words that most tasks of a claim share.
struct Words {
    names: HashMap<String, Arc<str>>,
    queues: HashMap<String, Arc<str>>,
    policies: HashMap<String, Arc<RetryPolicy>>,
    default_policy: Arc<RetryPolicy>,
}

impl Words {
    fn of(claim: &Claim) -> Self {
        let kept = |word: &Arc<str>| (keep(word).into_owned(), Arc::clone(word));
        Self {
            names: claim.names.iter().map(kept).collect(),
            queues: claim.queues.iter().map(|(queue, _)| kept(queue)).collect(),
            policies: HashMap::new(),
            default_policy: Arc::new(RetryPolicy::DEFAULT),
        }
    }

    fn claimed(&mut self, id: TaskId, row: &PgRow) -> Result<Claimed, Fault> {
        let fence: i64 = row.try_get(4)?;
        let word = |known: &HashMap<String, Arc<str>>, kept: &str| {
            known.get(kept).map_or_else(|| Arc::from(give(kept.to_owned())), Arc::clone)
        };
        let policy = match row.try_get::<Option<&str>, _>(14)? {
            None => Arc::clone(&self.default_policy),
            Some(json) => match self.policies.get(json) {
                Some(policy) => Arc::clone(policy),
                None => {
                    let policy = Arc::new(words::policy(Some(json)));
                    self.policies.insert(json.to_owned(), Arc::clone(&policy));
                    policy
                }
            },
        };
        Ok(Claimed {
            snoozes: 0,
            run: Run::new(id, words::count(fence)),
            name: word(&self.names, row.try_get(5)?),
            queue: word(&self.queues, row.try_get(6)?),
            args: Arc::from(row.try_get::<&str, _>(16)?),
            tags: words::tags(row.try_get(15)?),
            attempt: words::small(row.try_get(9)?),
            max_attempts: words::small(row.try_get(10)?),
            policy,
            scheduled_for: row.try_get::<Option<Instant>, _>(11)?.map(|at| time::from_micros(at.0)),
            log_lines: words::small(row.try_get::<i32, _>(12)?.into()),
            log_bytes: words::small(row.try_get(13)?),
        })
    }
}

/// How long until the first task of these names and queues is due that is not yet.
pub(super) async fn next_wakeup(
    session: &mut Session<'_>,
    names: &[Arc<str>],
    queues: &[Arc<str>],
) -> Result<Option<Duration>, Fault> {
    let kept = |words: &[Arc<str>]| words.iter().map(|word| keep(word).into_owned()).collect::<Vec<_>>();
    let query = session.query(NEXT_DUE).bind(kept(queues)).bind(0_i64).bind(kept(names));
    let micros: Option<i64> = session.one(query).await?.try_get(0)?;
    Ok(micros.map(|micros| Duration::from_micros(words::count(micros))))
}
