//! Claims: leases due tasks to an instance, and finds out when the next ones come due.
//!
//! Most claims are one statement. A turn (it ends runs, then claims) is one statement too if all of its runs succeeded
//! and none brings log lines or progress: it ends those runs, claims the next tasks, and updates the queue counts for both.
//! While claims meet (see [`contention`](super::contention)), such a turn is two statements. [`limits`] has the claims for
//! which queues must be locked.

use std::time::{Duration, Instant};

use super::asked::{Asked, Taken};
use super::claim_sql::{answer, count, may_prefetch, moves, promote, take_due};
use super::claimed::{MET_ANOTHER, NOW, TOOK, claims, places, says};
use super::damage;
use super::error::Fault;
use super::finish::{self, Successes, are_plain, succeed_each};
use super::limits;
use super::session::Session;
use super::sql::moment;
use crate::store::hint_set::HintSet;
use crate::store::{Claim, Claims, Finish, Finished};

/// Work that must be done before a claim. If there is any, the statement of the claim changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// Tasks have come due and are not marked as due yet. They may be more urgent than those that are.
    Promote = 1,
    /// Concurrency keys are in use: rows of queues must be locked before those of tasks.
    Lock = 2,
}

/// Finds out what must be done [first](First), if `$8` asks for this check. `turn!` adds a check of the ended runs,
/// `$keyed`: its `ORDER BY` makes the planner use the small index of running tasks with a key.
macro_rules! first {
    ($keyed:expr) => {
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
            " <= now() AND ",
            moment!(),
            " >= coalesce($11::timestamptz, '-infinity')) THEN 1
        ELSE 0
    END)::smallint AS what
)"
        )
    };
}

/// The end of a query for the due tasks that a claim may take from a part of a queue, without the value of its `LIMIT`.
macro_rules! due_of {
    ($part:literal, $condition:literal) => {
        concat!(
            "
        FROM taskflow_tasks t
        WHERE t.queue = ",
            $part,
            ".queue AND ",
            $condition,
            " AND t.name = ANY($3::text[]) AND (t.expires_at IS NULL OR t.expires_at > now())
        ORDER BY t.priority DESC, t.seq LIMIT "
        )
    };
}

/// The priority and the `seq` of the first due tasks of a part of a queue, which are their place in the order of
/// claims.
macro_rules! places {
    ($condition:literal) => {
        concat!("SELECT t.priority, t.seq", due_of!("parts", $condition), "least(parts.free, $4::bigint)")
    };
}

/// Locks the first due tasks of a part of a queue. It reads up to `$12` times as many tasks as it locks, so that it can
/// pass over those that other claims have locked, but does not read them all when many claims run at once. If a task
/// changed before it was locked, the condition on the state is checked again; the `+ 0` keeps the planner from using
/// this condition to find tasks.
macro_rules! first_due {
    ($part:literal, $condition:literal) => {
        concat!(
            "SELECT t.ctid AS place, t.queue, t.priority, t.seq, ",
            $part,
            ".prefetch AND ",
            may_prefetch!(),
            " AS may_prefetch
        FROM (
            SELECT t.ctid AS place, t.priority, t.seq",
            due_of!($part, $condition),
            $part,
            ".free * $12::bigint
        ) f JOIN taskflow_tasks t ON t.ctid = f.place
        WHERE t.state + 0 = 0
        ORDER BY f.priority DESC, f.seq LIMIT ",
            $part,
            ".free FOR UPDATE OF t SKIP LOCKED"
        )
    };
}

/// The queues of a claim that are not paused, if nothing must be done before it.
macro_rules! asked {
    () => {
        "asked AS MATERIALIZED (
    SELECT a.queue, a.free, a.prefetch FROM unnest($1::text[], $2::bigint[], $10::boolean[]) AS a (queue, free, prefetch)
    WHERE (SELECT what FROM first) = 0
      AND NOT EXISTS (SELECT 1 FROM taskflow_queues p WHERE p.name = a.queue AND p.paused)
)"
    };
}

/// The locked tasks to take: all before the first that finds no free slot and may not be prefetched.
macro_rules! take_of {
    ($found:literal) => {
        concat!(
            "ordered AS MATERIALIZED (
    SELECT f.place, f.may_prefetch, row_number() OVER (ORDER BY f.priority DESC, f.seq) AS n
    FROM ",
            $found,
            " f ORDER BY n LIMIT $4::bigint
), stop AS MATERIALIZED (
    SELECT min(n) AS at FROM ordered WHERE n > $9::bigint AND NOT may_prefetch
), due AS MATERIALIZED (
    SELECT place FROM ordered WHERE n < coalesce((SELECT at FROM stop), n + 1)
)"
        )
    };
}

/// The due tasks that may be taken from one queue, searched from its beginning: the case of most claims. A statement with
/// all of [`due!`] takes the server twice as long to begin.
macro_rules! due_of_one {
    () => {
        concat!(
            asked!(),
            ", found AS MATERIALIZED (
    SELECT t.* FROM asked CROSS JOIN LATERAL (
        ",
            first_due!("asked", "t.state = 0"),
            "
    ) t
), ",
            take_of!("found")
        )
    };
}

/// The due tasks that may be taken. [`SearchStarts`](super::search_starts::SearchStarts) says which parts of the queues to
/// search. Each part is searched by itself, because a search of the index can start at a given task only within one
/// priority. Where tasks are looked up by id, the `+ 0` keeps the planner from using the index of due tasks: it would step
/// over all entries below the start.
///
/// A first search without locks counts how many of the first tasks of all parts together belong to each part: to lock the
/// limit of the whole claim in each part would cost more than the claim itself. One more task than that is locked in each
/// part, so that a claim still gets tasks while another transaction keeps all tasks of one part locked.
macro_rules! due {
    () => {
        concat!(
            asked!(),
            ", parts AS MATERIALIZED (
    SELECT asked.*, s.low, s.high, s.start, s.part
    FROM asked JOIN unnest($13::text[], $14::smallint[], $15::smallint[], $16::bigint[])
        WITH ORDINALITY AS s (queue, low, high, start, part) ON s.queue = asked.queue
), first_of_all AS MATERIALIZED (
    SELECT f.part FROM (
        SELECT parts.part, t.* FROM parts CROSS JOIN LATERAL (
            ",
            places!("t.state = 0 AND t.priority BETWEEN parts.low AND parts.high"),
            "
        ) t WHERE parts.start IS NULL
        UNION ALL
        SELECT parts.part, t.* FROM parts CROSS JOIN LATERAL (
            ",
            places!("t.state = 0 AND t.priority = parts.low AND t.seq >= parts.start"),
            "
        ) t WHERE parts.start IS NOT NULL
    ) f
    ORDER BY f.priority DESC, f.seq LIMIT $4::bigint
), shares AS MATERIALIZED (
    SELECT parts.queue, parts.prefetch, parts.low, parts.high, parts.start,
           least(parts.free, coalesce(f.tasks, 0) + 1) AS free
    FROM parts LEFT JOIN (SELECT part, count(*) AS tasks FROM first_of_all GROUP BY part) f ON f.part = parts.part
), found AS MATERIALIZED (
    SELECT t.* FROM shares CROSS JOIN LATERAL (
        ",
            first_due!("shares", "t.state = 0 AND t.priority BETWEEN shares.low AND shares.high"),
            "
    ) t WHERE shares.start IS NULL
    UNION ALL
    SELECT t.* FROM shares CROSS JOIN LATERAL (
        ",
            first_due!("shares", "t.state = 0 AND t.priority = shares.low AND t.seq >= shares.start"),
            "
    ) t WHERE shares.start IS NOT NULL
    UNION ALL
    SELECT t.* FROM parts CROSS JOIN LATERAL (
        ",
            first_due!(
                "parts",
                "t.id = ANY($17::uuid[]) AND t.state + 0 = 0 AND t.priority = parts.low AND t.seq < parts.start"
            ),
            "
    ) t WHERE parts.start IS NOT NULL AND cardinality($17::uuid[]) > 0
), fitting AS (
    SELECT f.*, row_number() OVER (PARTITION BY f.queue ORDER BY f.priority DESC, f.seq) AS nth FROM found f
), fair AS (
    SELECT f.* FROM fitting f JOIN asked ON asked.queue = f.queue WHERE f.nth <= asked.free
), ",
            take_of!("fair")
        )
    };
}

/// Whether a claim got too few tasks because it met another claim: it locked fewer tasks than its first search found.
macro_rules! met_another {
    () => {
        "(SELECT count(*) FROM found) < (SELECT count(*) FROM first_of_all)"
    };
}

/// The same for a claim from one queue: more tasks are due than it has locked. Other claims may have locked them without
/// taking them, as this claim itself locks tasks for which there is no slot.
macro_rules! met_another_in_one {
    () => {
        concat!(
            "(SELECT count(*) FROM found) < (SELECT sum(free) FROM asked) AND EXISTS (
            SELECT 1 FROM asked CROSS JOIN LATERAL (
            SELECT 1",
            due_of!("asked", "t.state = 0"),
            "1 OFFSET (SELECT count(*) FROM found)
        ) t)"
        )
    };
}

/// The statement of a claim; `$due` finds its tasks. `turn!` is the statement of a turn: it ends successful runs, whose
/// values are the given parameters, and then claims.
macro_rules! claim {
    ($due:expr, $met_another:expr) => {
        concat!(
            "WITH ",
            first!(""),
            ", ",
            $due,
            ", ",
            take_due!("now()"),
            ", ",
            count!(moves!()),
            answer!(
                "(SELECT what FROM first)",
                "NULL::uuid[]",
                "((SELECT at FROM stop) IS NOT NULL)",
                $met_another
            )
        )
    };
}

macro_rules! turn {
    ($ids:literal, $fences:literal, $results:literal, $due:expr, $met_another:expr) => {
        concat!(
            "WITH ",
            first!(concat!(
                "
        WHEN (
            SELECT queue FROM taskflow_tasks WHERE state = 3 AND concurrency_key IS NOT NULL
            ORDER BY queue, concurrency_key LIMIT 1
        ) IS NOT NULL AND EXISTS (
            SELECT 1 FROM taskflow_tasks WHERE id = ANY(",
                $ids,
                ") AND state = 3 AND concurrency_key IS NOT NULL
        ) THEN 2"
            )),
            ", ",
            succeed_each!($ids, $fences, $results, "(SELECT what FROM first) = 0"),
            ", ",
            $due,
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
                "((SELECT at FROM stop) IS NOT NULL)",
                $met_another
            )
        )
    };
}

const CLAIM: &str = claim!(due!(), met_another!());
const CLAIM_FROM_ONE: &str = claim!(due_of_one!(), met_another_in_one!());
const TURN: &str = turn!("$18::uuid[]", "$19::bigint[]", "$20::text[]", due!(), met_another!());
const TURN_FROM_ONE: &str =
    turn!("$13::uuid[]", "$14::bigint[]", "$15::text[]", due_of_one!(), met_another_in_one!());

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
        true if !session.is_in_transaction() && session.starts.contention.are_apart() => {
            let finished = finish::finish(session, finishes).await?;
            let (_, claims, damaged) = take(session, &[], claim, claim_id).await?;
            (finished, claims, damaged)
        }
        true => take(session, finishes, claim, claim_id).await?,
        false => {
            session.begin().await?;
            let asked = Asked::of(session, claim, claim_id).await?;
            limits::turn(session, finishes, claim, asked).await?
        }
    };
    damage::fail_claimed(session, damaged).await?;
    Ok((finished, claims))
}

async fn take(
    session: &mut Session<'_>,
    finishes: &[Finish],
    claim: &Claim,
    claim_id: i64,
) -> Result<Taken, Fault> {
    let asked = Asked::of(session, claim, claim_id).await?;
    if asked.are_limited() {
        return limits::turn(session, finishes, claim, asked).await;
    }
    let successes = Successes::of(finishes);
    let began = Instant::now();
    let statement = |session: &Session<'_>, checks_first: bool| {
        let queues = asked.queues.iter().map(|queue| &*queue.name);
        let search = session.starts.search(&claim.names, queues, &session.due_again);
        let is_from_one = search.is_all_of_one();
        let text = match (finishes.is_empty(), is_from_one) {
            (true, true) => CLAIM_FROM_ONE,
            (true, false) => CLAIM,
            (false, true) => TURN_FROM_ONE,
            (false, false) => TURN,
        };
        let statement = asked.bind(session.query(text), claim, checks_first);
        let statement = statement.bind(search.later).bind(session.starts.contention.window());
        let statement = if is_from_one { statement } else { search.bind_parts(statement) };
        if finishes.is_empty() { statement } else { successes.bind(statement) }
    };
    let mut rows = session.all(statement(session, true)).await?;
    match says::<i16>(&rows, 0)? {
        Some(first) if first == First::Lock as i16 => {
            return limits::turn(session, finishes, claim, asked).await;
        }
        Some(first) if first == First::Promote as i16 => {
            session.begin().await?;
            promote(session).await?;
            rows = session.all(statement(session, false)).await?;
        }
        Some(_) => session.starts.nothing_came_due(says(&rows, NOW)?),
        None => {}
    }
    let took = Duration::from_micros(says::<i64>(&rows, TOOK)?.unwrap_or_default().unsigned_abs());
    session.starts.claimed(&claim.names, places(&rows)?, (began, took, finishes.len()));
    let mut finished = successes.answers(says(&rows, 1)?.unwrap_or_default());
    successes.recognise_repeated(session, &mut finished).await?;
    session.changes |= HintSet::ENDS.when(finish::any_ended(&finished));
    let (mut claims, damaged) = claims(claim, &rows)?;
    let met_another = says(&rows, MET_ANOTHER)?.unwrap_or(false);
    if let Some(pause) = session.starts.contention.claimed(met_another, claims.tasks.len()) {
        claims.next_due = Some(claims.next_due.map_or(pause, |due| due.min(pause)));
    }
    Ok((finished, claims, damaged))
}
