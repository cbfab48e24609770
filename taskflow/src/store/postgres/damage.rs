//! Rows that were damaged by other programs or by hand.
//!
//! A task whose row cannot be read is failed with the reason, and everything else goes on. Most damage is found when a
//! row is claimed, at no cost to the others. [`seek`] finds damage that no claim ever sees, along the indexes. [`mend`]
//! finds numbers so large that a statement fails on them; it reads all tasks that have not ended, and is called only
//! after such a failure.

use futures_util::future::BoxFuture;
use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::session::Session;
use super::sql::moment;
use super::unit_of_work::UnitOfWork;
use crate::model::TaskId;
use crate::store::codec;
use crate::store::hint_set::HintSet;

/// A claimed task that cannot be run.
#[derive(Debug)]
pub(super) struct Damage {
    pub(super) id: TaskId,
    pub(super) fence: i64,
    pub(super) reason: String,
}

/// The maximum number of damaged rows that one transaction fails.
const AT_ONCE: i64 = 500;

/// An instant later than any for which a task can be added.
macro_rules! too_late {
    () => {
        "'10000-01-02 00:00:00+00'"
    };
}

/// Pending tasks that would wait for ever, or whose state is undefined. Each case is one range of an index.
const SEEK: &str = concat!(
    "
SELECT id, 'its `run_at` is ' || run_at AS reason FROM taskflow_tasks
WHERE (state > 0) IS TRUE AND state = 1 AND ",
    moment!(),
    " > ",
    too_late!(),
    "
UNION ALL
SELECT id, 'its `expires_at` is ' || expires_at FROM taskflow_tasks WHERE expires_at > ",
    too_late!(),
    " AND state < 2
UNION ALL
SELECT id, 'its `state` is ' || state FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state > 8
LIMIT $1"
);

/// Gives running and held tasks without a valid lease a lease from now on: either their process renews it, or they
/// are lost.
const LEASE: &str = concat!(
    "
UPDATE taskflow_tasks t
SET lease_until = now() + coalesce(
    (SELECT least(greatest(i.lease, interval '1 s'), interval '1 hour') FROM taskflow_instances i WHERE i.id = t.instance),
    interval '10 s')
WHERE id = ANY (ARRAY(
    SELECT id FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state IN (2, 3) AND ",
    moment!(),
    " IS NULL
    UNION ALL
    SELECT id FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state IN (2, 3) AND ",
    moment!(),
    " > now() + interval '10 years'
))"
);

/// Ended tasks that would never be deleted.
const ENDED: &str = concat!(
    "
UPDATE taskflow_tasks SET finished_at = now()
WHERE id = ANY (ARRAY(
    SELECT id FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state IN (4, 5, 6, 7, 8) AND ",
    moment!(),
    " IS NULL
    UNION ALL
    SELECT id FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state IN (4, 5, 6, 7, 8) AND ",
    moment!(),
    " > now() + interval '10 years'
))"
);

/// Whether `SEEK`, `LEASE` or `ENDED` would find something. Each call that recovers lost runs asks this.
macro_rules! is_damaged {
    () => {
        concat!(
            "(EXISTS (SELECT 1 FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state = 1 AND ",
            $crate::store::postgres::sql::moment!(),
            " > '10000-01-02 00:00:00+00')
    OR EXISTS (SELECT 1 FROM taskflow_tasks WHERE expires_at > '10000-01-02 00:00:00+00' AND state < 2)
    OR EXISTS (SELECT 1 FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state > 8)
    OR EXISTS (SELECT 1 FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state IN (2, 3, 4, 5, 6, 7, 8) AND ",
            $crate::store::postgres::sql::moment!(),
            " IS NULL)
    OR EXISTS (SELECT 1 FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state IN (2, 3, 4, 5, 6, 7, 8) AND ",
            $crate::store::postgres::sql::moment!(),
            " > now() + interval '10 years'))"
        )
    };
}
pub(super) use is_damaged;

/// Finds damaged tasks that have not ended, and what is wrong with each. It does not check their JSON.
const LOOK: &str = "
SELECT id, reason
FROM (
    SELECT id, CASE
        WHEN state NOT BETWEEN -1 AND 8 THEN 'its `state` is ' || state
        WHEN attempt NOT BETWEEN 0 AND 4294967294 THEN 'its `attempt` is ' || attempt
        WHEN max_attempts NOT BETWEEN 1 AND 4294967295 THEN 'its `max_attempts` is ' || max_attempts
        WHEN fence NOT BETWEEN 0 AND 4611686018427387904 THEN 'its `fence` is ' || fence
        WHEN lost_runs NOT BETWEEN 0 AND 1000000000 THEN 'its `lost_runs` is ' || lost_runs
        WHEN snoozes NOT BETWEEN 0 AND 2000000000 THEN 'its `snoozes` is ' || snoozes
        WHEN log_lines NOT BETWEEN 0 AND 2000000000 THEN 'its `log_lines` is ' || log_lines
        WHEN log_bytes NOT BETWEEN 0 AND 4294967295 THEN 'its `log_bytes` is ' || log_bytes
        WHEN NOT isfinite(created_at) THEN 'its `created_at` is ' || created_at
        WHEN NOT isfinite(run_at) THEN 'its `run_at` is ' || run_at
        WHEN NOT isfinite(scheduled_for) THEN 'its `scheduled_for` is ' || scheduled_for
        WHEN NOT isfinite(expires_at) THEN 'its `expires_at` is ' || expires_at
        WHEN NOT isfinite(started_at) THEN 'its `started_at` is ' || started_at
        WHEN NOT isfinite(lease_until) THEN 'its `lease_until` is ' || lease_until
    END AS reason
    FROM taskflow_tasks WHERE state < 4 OR state > 8
) AS looked_at
WHERE reason IS NOT NULL LIMIT $1";

/// Bounds the numbers of a failed task, so that a later manual retry does not fail on them.
const SANITIZE: &str = "
UPDATE taskflow_tasks SET
    fence = least(greatest(fence, 0), 4611686018427387904), max_attempts = least(greatest(max_attempts, 1), 4294967295),
    log_lines = least(greatest(log_lines, 0), 2000000000), log_bytes = least(greatest(log_bytes, 0), 4294967295),
    expires_at = CASE WHEN expires_at < '10000-01-02 00:00:00+00' THEN expires_at END,
    scheduled_for = CASE WHEN isfinite(scheduled_for) THEN scheduled_for END,
    started_at = CASE WHEN isfinite(started_at) THEN started_at END,
    created_at = CASE WHEN isfinite(created_at) THEN created_at ELSE now() END
WHERE id = ANY($1::uuid[])";

/// Whether there are queue counts that no tasks can have produced.
const ARE_ABSURD: &str = "
SELECT EXISTS (
    SELECT 1 FROM taskflow_counts
    WHERE greatest(abs(pending::numeric), abs(running::numeric), abs(success::numeric), abs(failed::numeric),
                   abs(interrupted::numeric), abs(cancelled::numeric), abs(rejected::numeric),
                   abs(waiting_first::numeric), abs(later::numeric), abs(refused::numeric)) > 1000000000000000
)";

/// Keeps all other transactions from changing tasks until this one ends.
const STOP: &str = "LOCK TABLE taskflow_tasks IN SHARE ROW EXCLUSIVE MODE";

/// Counts all queues anew. The number of refused tasks is stored nowhere else, so its valid values are kept.
pub(super) const RECOUNT: &str = "
WITH gone AS (
    DELETE FROM taskflow_counts RETURNING queue, refused
), known AS (
    SELECT queue, sum(refused) AS refused FROM gone WHERE refused BETWEEN 0 AND 1000000000000000 GROUP BY queue
), counted AS (
    SELECT queue, count(*) FILTER (WHERE state BETWEEN -1 AND 2) AS pending,
           count(*) FILTER (WHERE state = 3) AS running, count(*) FILTER (WHERE state = 4) AS success,
           count(*) FILTER (WHERE state = 5) AS failed, count(*) FILTER (WHERE state = 6) AS interrupted,
           count(*) FILTER (WHERE state = 7) AS cancelled,
           count(*) FILTER (WHERE state NOT BETWEEN -1 AND 7) AS rejected,
           count(*) FILTER (WHERE state BETWEEN -1 AND 2 AND attempt = 0) AS waiting_first,
           count(*) FILTER (WHERE state = 1) AS later
    FROM taskflow_tasks GROUP BY queue
)
INSERT INTO taskflow_counts AS c
    (shard, queue, pending, running, success, failed, interrupted, cancelled, rejected, waiting_first, later, refused)
SELECT -2, queue, coalesce(pending, 0), coalesce(running, 0), coalesce(success, 0), coalesce(failed, 0),
       coalesce(interrupted, 0), coalesce(cancelled, 0), coalesce(rejected, 0), coalesce(waiting_first, 0),
       coalesce(later, 0), coalesce(refused, 0)
FROM counted FULL JOIN known USING (queue)";

/// Fails the tasks that a claim has leased and cannot run. The claim is committed before, so an error here does not
/// undo it: the lease of a task that cannot be failed ends by itself.
pub(super) async fn fail_claimed(session: &mut Session<'_>, damaged: Vec<Damage>) -> Result<(), Fault> {
    if damaged.is_empty() {
        return Ok(());
    }
    session.commit().await?;
    if let Err(fault) = try_to_fail(session, &damaged).await {
        tracing::error!(
            ?fault,
            "damaged tasks could not be marked as failed; they will be when their leases end"
        );
        session.roll_back().await?;
    }
    Ok(())
}

async fn try_to_fail(session: &mut Session<'_>, damaged: &[Damage]) -> Result<(), Fault> {
    let mut work = UnitOfWork::of(session, damaged.iter().map(|damage| damage.id)).await?;
    let mut failed = Vec::new();
    for Damage { id, fence, reason } in damaged {
        if work.row(*id).is_some_and(|row| row.fence == *fence) {
            tracing::error!(task = %id, reason, "a stored task is damaged and was marked as failed");
            work.fail_damaged(*id, reason, false);
            failed.push(Uuid::from(*id));
        }
    }
    session.changes |= HintSet::ALL.when(!failed.is_empty());
    work.write(session).await?;
    session.execute(session.query(SANITIZE).bind(failed)).await?;
    session.commit().await
}

/// Repairs damage that no claim will ever see.
pub(super) async fn seek(session: &mut Session<'_>) -> Result<(), Fault> {
    session.begin().await?;
    session.execute(session.query(LEASE)).await?;
    session.execute(session.query(ENDED)).await?;
    session.commit().await?;
    fail_found(session, SEEK).await.map(drop)
}

/// Repairs damage that makes statements fail. Answers whether there was any.
pub(super) fn mend_boxed<'s>(session: &'s mut Session<'_>) -> BoxFuture<'s, Result<bool, Fault>> {
    Box::pin(mend(session))
}

async fn mend(session: &mut Session<'_>) -> Result<bool, Fault> {
    session.begin().await?;
    // It reads all tasks that have not ended, and may wait for writes.
    session.patience = std::time::Duration::from_secs(120);
    session.script("SET LOCAL statement_timeout = '110s'").await?;
    let are_absurd: bool = session.one(session.query(ARE_ABSURD)).await?.try_get(0)?;
    if are_absurd {
        tracing::error!("the queue counts are damaged; counting them anew");
        session.script(STOP).await?;
        session.execute(session.query(RECOUNT)).await?;
    }
    session.commit().await?;
    let mut any = are_absurd;
    loop {
        let failed = fail_found(session, LOOK).await?;
        any |= failed > 0;
        if codec::to_i64(failed) < AT_ONCE {
            return Ok(any);
        }
    }
}

/// Fails the tasks that a statement finds, each with its reason. Answers how many.
async fn fail_found(session: &mut Session<'_>, look: &'static str) -> Result<usize, Fault> {
    session.begin().await?;
    session.script("SET LOCAL statement_timeout = '110s'").await?;
    let mut found = Vec::new();
    for row in session.all(session.query(look).bind(AT_ONCE)).await? {
        found.push((TaskId::from(row.try_get::<Uuid, _>(0)?), row.try_get::<String, _>(1)?));
    }
    if found.is_empty() {
        return Ok(0);
    }
    let mut work = UnitOfWork::of(session, found.iter().map(|(id, _)| *id)).await?;
    for (id, reason) in &found {
        tracing::error!(task = %id, reason, "a stored task is damaged and was marked as failed");
        work.fail_damaged(*id, reason, true);
    }
    work.write(session).await?;
    let ids: Vec<Uuid> = found.iter().map(|(id, _)| Uuid::from(*id)).collect();
    session.execute(session.query(SANITIZE).bind(ids)).await?;
    session.changes = HintSet::ALL;
    session.commit().await?;
    Ok(found.len())
}
