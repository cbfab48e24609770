//! Claims from queues that have limits over all processes.
//!
//! A claim is one transaction. It locks the rows of those queues; computes from the stored counts and starts how many
//! more tasks each limit allows; looks at the first due tasks and blocks those whose concurrency key already runs as
//! many tasks as it may; and leases the rest. Two claims from one such queue run one after the other, so the later one
//! sees what the earlier one took.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use sqlx::Row;
use uuid::Uuid;

use super::asked::{Asked, Taken};
use super::claim_sql::{answer, count, may_prefetch, moves, promote, take_due};
use super::claimed::claims;
use super::damage::Damage;
use super::error::Fault;
use super::session::{Session, Statement};
use super::sql::{moment, total};
use super::value::{Instant, escape_nul, length};
use super::{concurrency_keys, finish, queue};
use crate::store::{Claim, Claims, Finish, SharedLimits, StartWindow, codec};

/// The maximum number of tasks that one claim blocks.
const BLOCKED_AT_ONCE: usize = 1_000;
/// The maximum number of tasks that one claim unblocks when the key limit has changed.
const UNBLOCKED_AT_ONCE: i64 = 10_000;

/// Those queues of the claim that have a stored key limit: tasks in them may be blocked, even if this claim brings no
/// limit for them.
const WITH_BLOCKED: &str = "
SELECT name FROM taskflow_queues WHERE name = ANY($1::text[]) AND key_limit IS NOT NULL";

const LOOK_AT_QUEUES: &str = concat!(
    "
SELECT q.name, q.starts, q.key_limit, n.running, n.pending, clock_timestamp(),
       EXISTS (SELECT 1 FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state = 1 AND ",
    moment!(),
    " <= now())
FROM taskflow_queues q CROSS JOIN LATERAL (
    SELECT ",
    total!("running"),
    " AS running, ",
    total!("pending"),
    " AS pending
    FROM taskflow_counts c WHERE c.queue = q.name
) n
WHERE q.name = ANY($1::text[])"
);

/// Unblocks the first `$3` tasks of each (key, name), at most `$2` tasks in all. `$3` is the new key limit; NULL
/// unblocks all. The runs that end unblock the rest. If all were unblocked, two processes that disagree about the
/// limit, as during a deployment, would do nothing but unblock and block.
const UNBLOCK_FIRST: &str = "
WITH RECURSIVE blocked_lists AS (
    (SELECT concurrency_key AS key, name FROM taskflow_tasks
     WHERE state = -1 AND queue = $1 AND concurrency_key IS NOT NULL ORDER BY queue, concurrency_key, name LIMIT 1)
    UNION ALL
    SELECT t.key, t.name
    FROM blocked_lists l CROSS JOIN LATERAL (
        SELECT concurrency_key AS key, name FROM taskflow_tasks
        WHERE state = -1 AND queue = $1 AND concurrency_key IS NOT NULL AND (concurrency_key, name) > (l.key, l.name)
        ORDER BY queue, concurrency_key, name LIMIT 1
    ) t
)
UPDATE taskflow_tasks SET state = 0 WHERE id = ANY (ARRAY(
    SELECT t.id
    FROM blocked_lists CROSS JOIN LATERAL (
        SELECT id FROM taskflow_tasks
        WHERE state = -1 AND queue = $1 AND concurrency_key = blocked_lists.key AND name = blocked_lists.name
        ORDER BY queue, concurrency_key, name, priority DESC, seq LIMIT $3::bigint FOR UPDATE SKIP LOCKED
    ) t
    LIMIT $2
))";

const STORE_KEY_LIMIT: &str = "UPDATE taskflow_queues SET key_limit = $2 WHERE name = $1";

const STORE_STARTS: &str = "UPDATE taskflow_queues SET starts = $2 WHERE name = $1";

/// The first due tasks of each queue.
const LOOK_AT_DUE: &str = concat!(
    "
SELECT t.id, asked.queue, t.concurrency_key, t.may_prefetch
FROM unnest($1::text[], $2::bigint[]) AS asked (queue, most) CROSS JOIN LATERAL (
    SELECT t.id, t.concurrency_key, t.priority, t.seq, ",
    may_prefetch!(),
    " AS may_prefetch
    FROM taskflow_tasks t
    WHERE t.state = 0 AND t.queue = asked.queue AND t.name = ANY($3::text[])
      AND (t.expires_at IS NULL OR t.expires_at > now())
    ORDER BY t.priority DESC, t.seq LIMIT asked.most
) t
WHERE NOT EXISTS (SELECT 1 FROM taskflow_queues p WHERE p.name = asked.queue AND p.paused)
ORDER BY t.priority DESC, t.seq"
);

const RUNNING_OF_KEYS: &str = "
SELECT count(t.one)
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (queue, key, n)
    LEFT JOIN LATERAL (
        SELECT 1 AS one FROM taskflow_tasks t
        WHERE t.state = 3 AND t.queue = k.queue AND t.concurrency_key = k.key
    ) t ON true
GROUP BY k.n ORDER BY k.n";

const BLOCK: &str = "
UPDATE taskflow_tasks SET state = -1 WHERE id = ANY (ARRAY(
    SELECT t.id
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS a (id, queue, key) JOIN taskflow_tasks t ON t.id = a.id
    WHERE t.state = 0 AND t.queue = a.queue AND t.concurrency_key = a.key
    ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
))";

/// Leases the chosen tasks, if they have not changed. They start at the instant for which the limits were computed,
/// not when this transaction began to wait for the queues.
const CLAIM_CHOSEN: &str = concat!(
    "WITH due AS MATERIALIZED (
    SELECT t.ctid AS place
    FROM unnest($2::uuid[], $9::text[], $10::text[]) AS c (id, queue, key) JOIN taskflow_tasks t ON t.id = c.id
    WHERE t.state = 0 AND t.queue = c.queue AND t.concurrency_key IS NOT DISTINCT FROM c.key
      AND (t.expires_at IS NULL OR t.expires_at > $8::timestamptz)
    ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
), ",
    take_due!("$8::timestamptz"),
    ", ",
    count!(moves!()),
    answer!("0::smallint", "NULL::uuid[]", "$11::boolean", "false")
);

/// A claim, and the state of its limited queues, which decides how much it may take.
struct LimitedClaim<'c> {
    claim: &'c Claim,
    asked: Asked,
    queues: HashMap<String, Queue>,
    /// The server's clock, read after the queues were locked, so it is later than the time that any earlier claim of
    /// these queues read.
    now: i64,
}

/// A queue that has limits.
struct Queue {
    limits: SharedLimits,
    window: StartWindow,
    pending: i64,
}

/// A due task that was looked at.
struct Due {
    id: Uuid,
    queue: String,
    key: Option<String>,
    may_prefetch: bool,
}

/// The due tasks that were looked at, sorted by what the claim does with them.
#[derive(Default)]
struct Decision {
    chosen: Vec<Due>,
    blocked: Vec<Due>,
    /// The claim stopped at a task that may not be prefetched.
    needs_slot: bool,
}

/// Ends runs, then claims within the limits.
pub(super) async fn turn(
    session: &mut Session<'_>,
    finishes: &[Finish],
    claim: &Claim,
    asked: Asked,
) -> Result<Taken, Fault> {
    session.has_limits = true;
    session.begin().await?;
    let names: Vec<String> = asked.queues.iter().map(|queue| queue.name.clone()).collect();
    let limited = asked.queues.iter().filter(|queue| queue.limits.any());
    let mut limited: BTreeSet<String> = limited.map(|queue| queue.name.clone()).collect();
    limited.extend(concurrency_keys::queues(session, session.query(WITH_BLOCKED).bind(names)).await?);
    let keyed = concurrency_keys::queues_of(session, finishes.iter().map(|finish| finish.run.id)).await?;
    queue::lock(session, limited.union(&keyed).cloned().collect()).await?;
    let finished = finish::finish(session, finishes).await?;
    let (claims, damaged) = take_within(session, asked, claim, limited).await?;
    Ok((finished, claims, damaged))
}

async fn take_within(
    session: &mut Session<'_>,
    asked: Asked,
    claim: &Claim,
    limited: BTreeSet<String>,
) -> Result<(Claims, Vec<Damage>), Fault> {
    let mut limited_claim = LimitedClaim { claim, asked, queues: HashMap::new(), now: 0 };
    let mut is_left = limited_claim.apply_limits(session, limited).await?;
    let (decision, stopped) = limited_claim.choose(session).await?;
    is_left |= stopped;
    let rows = session.all(limited_claim.bind_chosen(session.query(CLAIM_CHOSEN), &decision)).await?;
    let (mut claims, damaged) = claims(claim, &rows)?;
    let next_start = limited_claim.count_starts(session, &claims).await?;
    claims.next_due = [claims.next_due, next_start].into_iter().flatten().min();
    if is_left {
        claims.next_due = Some(Duration::ZERO);
    }
    Ok((claims, damaged))
}

impl LimitedClaim<'_> {
    /// Lowers the free places of each queue to what its limits allow, applies a changed key limit, and marks tasks that
    /// have come due. Answers whether more tasks must be unblocked.
    async fn apply_limits(
        &mut self,
        session: &mut Session<'_>,
        limited: BTreeSet<String>,
    ) -> Result<bool, Fault> {
        let limited: Vec<String> = limited.into_iter().collect();
        let mut come_due = limited.is_empty();
        let mut is_left = false;
        for row in session.all(session.query(LOOK_AT_QUEUES).bind(limited)).await? {
            let name: String = row.try_get(0)?;
            let window = row.try_get::<Option<&str>, _>(1)?;
            let window: StartWindow =
                window.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
            self.now = row.try_get::<Instant, _>(5)?.0;
            come_due = row.try_get(6)?;
            let place = self.asked.queues.binary_search_by(|queue| queue.name.cmp(&name));
            let mut limits = SharedLimits::default();
            if let Some(queue) = place.ok().and_then(|place| self.asked.queues.get_mut(place)) {
                limits = queue.limits;
                if let Some(most) = limits.global_concurrency {
                    queue.free = queue.free.min(codec::to_i64(most) - row.try_get::<i64, _>(3)?).max(0);
                }
                if let Some(rate) = limits.rate_limit {
                    queue.free = queue.free.min(codec::to_i64(window.free(rate, self.now)));
                }
            }
            let key_limit = limits.key_concurrency.map(codec::to_i64);
            if row.try_get::<Option<i64>, _>(2)? != key_limit {
                is_left |= change_key_limit(session, &name, key_limit).await?;
            }
            self.queues.insert(name, Queue { limits, window, pending: row.try_get(4)? });
        }
        if self.now == 0 {
            let clock = session.one(session.query("SELECT clock_timestamp()")).await?;
            self.now = clock.try_get::<Instant, _>(0)?.0;
        }
        if come_due {
            promote(session).await?;
        }
        Ok(is_left)
    }

    /// Chooses tasks to start, and blocks tasks before them whose key is busy. Answers also whether it stopped early
    /// because it has blocked [`BLOCKED_AT_ONCE`] tasks.
    async fn choose(&self, session: &mut Session<'_>) -> Result<(Decision, bool), Fault> {
        let (mut times, mut left) = (1, BLOCKED_AT_ONCE);
        loop {
            let due = self.look_at_due(session, times).await?;
            let running = self.running(session, &due).await?;
            let decision = self.decide(due, running, left);
            if decision.blocked.is_empty() {
                return Ok((decision, false));
            }
            let put = block(session, &decision.blocked).await?;
            left = left.saturating_sub(put);
            // Rows that another transaction is writing are not waited for.
            if left == 0 || put < decision.blocked.len() {
                return Ok((decision, left == 0));
            }
            times = (times * 4).min(codec::to_i64(BLOCKED_AT_ONCE));
        }
    }

    /// The first due tasks of each queue: as many as can be taken. In a queue with a key limit, `times` as many, but no
    /// more than the greater of 1,000 and the number that can be taken.
    async fn look_at_due(&self, session: &mut Session<'_>, times: i64) -> Result<Vec<Due>, Fault> {
        let queues = self.asked.queues.iter().filter(|queue| queue.free > 0);
        let (mut names, mut most) = (Vec::new(), Vec::new());
        for queue in queues {
            let (name, free) = (queue.name.clone(), queue.free);
            let is_keyed = self.queues.get(&name).is_some_and(|queue| queue.limits.key_concurrency.is_some());
            most.push(if is_keyed { free.saturating_mul(times).min(free.max(1_000)) } else { free });
            names.push(name);
        }
        let known: Vec<String> = self.claim.names.iter().map(|name| escape_nul(name).into_owned()).collect();
        let query = session.query(LOOK_AT_DUE).bind(names).bind(most).bind(known);
        let rows = session.all(query).await?;
        let due = |row: &sqlx::postgres::PgRow| {
            let (id, queue, key) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(Due { id, queue, key, may_prefetch: row.try_get(3)? })
        };
        rows.iter().map(due).collect()
    }

    fn key_limit(&self, due: &Due) -> Option<i64> {
        due.key.as_ref().and(self.queues.get(&due.queue)?.limits.key_concurrency).map(codec::to_i64)
    }

    /// How many tasks of each limited key run.
    async fn running(
        &self,
        session: &mut Session<'_>,
        due: &[Due],
    ) -> Result<HashMap<(String, String), i64>, Fault> {
        let keyed = due.iter().filter(|due| self.key_limit(due).is_some());
        let keys: BTreeSet<(&String, &String)> =
            keyed.filter_map(|due| Some((&due.queue, due.key.as_ref()?))).collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let query = session
            .query(RUNNING_OF_KEYS)
            .bind(keys.iter().map(|(queue, _)| (*queue).clone()).collect::<Vec<_>>())
            .bind(keys.iter().map(|(_, key)| (*key).clone()).collect::<Vec<_>>());
        let rows = session.all(query).await?;
        let place = |(queue, key): (&String, &String)| (queue.clone(), key.clone());
        keys.into_iter().zip(&rows).map(|(key, row)| Ok((place(key), row.try_get(0)?))).collect()
    }

    /// Which tasks to start, and which to block, at most `most_blocked`.
    fn decide(
        &self,
        due: Vec<Due>,
        mut running: HashMap<(String, String), i64>,
        most_blocked: usize,
    ) -> Decision {
        let queues = self.asked.queues.iter();
        let mut free: HashMap<String, (i64, bool)> =
            queues.map(|queue| (queue.name.clone(), (queue.free, queue.prefetch))).collect();
        let Decision { mut chosen, mut blocked, mut needs_slot } = Decision::default();
        for due in due {
            let taken = codec::to_i64(chosen.len());
            if taken >= self.asked.limit || blocked.len() >= most_blocked {
                break;
            }
            let Some((free, prefetch)) = free.get_mut(&due.queue).filter(|(free, _)| *free > 0) else {
                continue;
            };
            let needs_this_slot = taken >= self.asked.slots && !(*prefetch && due.may_prefetch);
            if let (Some(most), Some(key)) = (self.key_limit(&due), &due.key) {
                let running = running.entry((due.queue.clone(), key.clone())).or_default();
                if *running >= most {
                    blocked.push(due);
                    continue;
                }
                *running += 1;
            }
            if needs_this_slot {
                needs_slot = true;
                break;
            }
            *free -= 1;
            chosen.push(due);
        }
        Decision { chosen, blocked, needs_slot }
    }

    fn bind_chosen(&self, statement: Statement, decision: &Decision) -> Statement {
        let (claim, asked, chosen) = (self.claim, &self.asked, &decision.chosen);
        statement
            .bind(asked.queues.iter().map(|queue| queue.name.clone()).collect::<Vec<_>>())
            .bind(chosen.iter().map(|due| due.id).collect::<Vec<_>>())
            .bind(claim.names.iter().map(|name| escape_nul(name).into_owned()).collect::<Vec<_>>())
            .bind(asked.limit)
            .bind(Uuid::from(claim.instance))
            .bind(asked.claim_id)
            .bind(length(claim.lease))
            .bind(Instant(self.now))
            .bind(chosen.iter().map(|due| due.queue.clone()).collect::<Vec<_>>())
            .bind(chosen.iter().map(|due| due.key.clone()).collect::<Vec<_>>())
            .bind(decision.needs_slot)
    }

    /// Records the starts in queues with a rate limit. Answers how long it takes until the next task may start, in
    /// queues that still have pending tasks and no start free.
    async fn count_starts(
        &mut self,
        session: &mut Session<'_>,
        claims: &Claims,
    ) -> Result<Option<Duration>, Fault> {
        let mut next_start: Option<i64> = None;
        for (name, queue) in &mut self.queues {
            let Some(rate) = queue.limits.rate_limit else { continue };
            let started = claims.tasks.iter().filter(|task| escape_nul(&task.queue) == *name).count();
            if started > 0 {
                queue.window.start(rate, self.now, started);
                let json = serde_json::to_string(&queue.window).expect("numbers can be written as JSON");
                session.execute(session.query(STORE_STARTS).bind(name.clone()).bind(json)).await?;
            }
            if queue.pending > codec::to_i64(started) {
                next_start = [next_start, queue.window.next_free(rate, self.now)].into_iter().flatten().min();
            }
        }
        Ok(next_start.map(|at| Duration::from_micros(at.abs_diff(self.now))))
    }
}

/// Unblocks tasks after the key limit has changed, at most [`UNBLOCKED_AT_ONCE`] of them; stores the new limit when
/// none are left. Answers whether some may be left.
async fn change_key_limit(session: &mut Session<'_>, queue: &str, limit: Option<i64>) -> Result<bool, Fault> {
    let unblock = session.query(UNBLOCK_FIRST).bind(queue.to_owned()).bind(UNBLOCKED_AT_ONCE).bind(limit);
    if session.execute(unblock).await? >= UNBLOCKED_AT_ONCE.unsigned_abs() {
        return Ok(true);
    }
    session.execute(session.query(STORE_KEY_LIMIT).bind(queue.to_owned()).bind(limit)).await?;
    Ok(false)
}

async fn block(session: &mut Session<'_>, blocked: &[Due]) -> Result<usize, Fault> {
    let statement = session
        .query(BLOCK)
        .bind(blocked.iter().map(|due| due.id).collect::<Vec<_>>())
        .bind(blocked.iter().map(|due| due.queue.clone()).collect::<Vec<_>>())
        .bind(blocked.iter().map(|due| due.key.clone()).collect::<Vec<_>>());
    Ok(usize::try_from(session.execute(statement).await?).unwrap_or(usize::MAX))
}
