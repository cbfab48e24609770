//! What an operator asks for (cancel, retry, delete, replace arguments), and the deletion of old records.

use std::collections::{HashMap, HashSet};

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::concurrency_keys::{self, QUEUES_OF_RUN_KEY};
use super::documents;
use super::error::Fault;
use super::queue;
use super::queue_counts::CountDeltas;
use super::session::Session;
use super::sql::{moment, total};
use super::task_row::WITH_RUN_KEY;
use super::unit_of_work::UnitOfWork;
use super::value::{escape_json, escape_nul, unescape_nul};
use crate::model::{CancelOutcome, Error, TaskId};
use crate::store::hint_set::HintSet;
use crate::store::row_state::RowState;
use crate::store::{Reopen, ReplaceArgs, Retention, codec, transition};

const DELETE: &str = "
DELETE FROM taskflow_tasks WHERE id = ANY (ARRAY(
    SELECT id FROM taskflow_tasks WHERE id = ANY($1::uuid[]) AND state >= 4 ORDER BY id FOR UPDATE
))
RETURNING id, queue, state";

/// Locks the rows in the order of their ids, to prevent deadlocks.
const REPLACE_ARGS: &str = "
UPDATE taskflow_tasks t SET args = r.new
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS r (id, old, new)
WHERE t.id = ANY (ARRAY(SELECT id FROM taskflow_tasks WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE))
  AND t.id = r.id AND t.args = r.old
RETURNING t.id";

/// Reads each final state by itself, because each is one range of the index. It starts where the last call stopped
/// deleting.
const DELETE_OLD: &str = concat!(
    "
DELETE FROM taskflow_tasks WHERE ctid = ANY (ARRAY(
    SELECT t.ctid
    FROM unnest($1::smallint[], $2::bigint[], $4::timestamptz[]) AS s (state, retention, start) CROSS JOIN LATERAL (
        SELECT ctid FROM taskflow_tasks
        WHERE (state > 0) IS TRUE AND state = s.state AND ",
    moment!(),
    " <= now() - s.retention * interval '1 microsecond' AND ",
    moment!(),
    " >= coalesce(s.start, '-infinity')
        ORDER BY state, ",
    moment!(),
    " LIMIT $3 FOR UPDATE SKIP LOCKED
    ) t
    LIMIT $3
))
RETURNING id, queue, state, finished_at"
);

const DELETE_ATTEMPTS: &str = "DELETE FROM taskflow_attempts WHERE task = ANY($1::uuid[])";
const DELETE_LOGS: &str = "DELETE FROM taskflow_logs WHERE task = ANY($1::uuid[])";

/// Deletes instances that left longer ago than records are kept, or that were last seen longer ago than that and three
/// leases. An instance that still runs or holds a task stays. An attempt that names a deleted instance is shown without host
/// and process id.
const DELETE_OLD_INSTANCES: &str = "
DELETE FROM taskflow_instances i
WHERE CASE WHEN i.gone_at IS NOT NULL THEN i.gone_at <= now() - $1::bigint * interval '1 microsecond'
           ELSE i.seen_at <= now() - $1::bigint * interval '1 microsecond'
                             - 3 * least(greatest(i.lease, interval '10 s'), interval '1 year') END
  AND NOT EXISTS (SELECT 1 FROM taskflow_tasks t WHERE (t.state > 0) IS TRUE AND t.state IN (2, 3) AND t.instance = i.id)";

/// Adds up the counts of the shards. Each connection has left one for each half second in which it wrote.
const FOLD_COUNTS: &str = concat!(
    "
WITH shards AS (
    DELETE FROM taskflow_counts WHERE (shard, queue) IN (
        SELECT shard, queue FROM taskflow_counts WHERE shard >= 0 FOR UPDATE SKIP LOCKED
    )
    RETURNING *
), folded AS (
    SELECT queue, ",
    total!("pending"),
    " AS pending, ",
    total!("running"),
    " AS running, ",
    total!("success"),
    " AS success, ",
    total!("failed"),
    " AS failed, ",
    total!("interrupted"),
    " AS interrupted, ",
    total!("cancelled"),
    " AS cancelled, ",
    total!("rejected"),
    " AS rejected, ",
    total!("waiting_first"),
    " AS waiting_first, ",
    total!("later"),
    " AS later, ",
    total!("refused"),
    " AS refused
    FROM shards GROUP BY queue ORDER BY queue
)
INSERT INTO taskflow_counts AS c
    (shard, queue, pending, running, success, failed, interrupted, cancelled, rejected, waiting_first, later, refused)
SELECT -1, folded.* FROM folded
ON CONFLICT (shard, queue) DO UPDATE SET
    pending = c.pending + excluded.pending,
    running = c.running + excluded.running,
    success = c.success + excluded.success,
    failed = c.failed + excluded.failed,
    interrupted = c.interrupted + excluded.interrupted,
    cancelled = c.cancelled + excluded.cancelled,
    rejected = c.rejected + excluded.rejected,
    waiting_first = c.waiting_first + excluded.waiting_first,
    later = c.later + excluded.later,
    refused = c.refused + excluded.refused"
);

pub(super) async fn cancel(
    session: &mut Session<'_>,
    ids: &[TaskId],
    reason: &str,
) -> Result<Vec<CancelOutcome>, Fault> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut work = UnitOfWork::of(session, ids.iter().copied()).await?;
    let cancel_one = |id: &TaskId| work.decide(*id, |task| transition::cancel(task, reason));
    let answers: Vec<CancelOutcome> = ids.iter().map(cancel_one).collect();
    let changed = |it: &CancelOutcome| matches!(it, CancelOutcome::Cancelled | CancelOutcome::Requested);
    session.changes |= HintSet::ALL.when(answers.iter().any(changed));
    work.write(session).await?;
    Ok(answers)
}

pub(super) async fn cancel_by_run_key(
    session: &mut Session<'_>,
    run_key: &str,
) -> Result<Vec<TaskId>, Fault> {
    let run_key = escape_nul(run_key).into_owned();
    let queues = session.query(QUEUES_OF_RUN_KEY).bind(run_key.clone());
    let queues = concurrency_keys::queues(session, queues).await?;
    queue::lock(session, queues).await?;
    let query = session.query(WITH_RUN_KEY).bind(run_key);
    let mut work = UnitOfWork::over(session, query).await?;
    let mut ids = work.ids();
    ids.retain(|id| work.decide(*id, transition::cancel_by_run_key));
    session.changes |= HintSet::ALL.when(!ids.is_empty());
    work.write(session).await?;
    Ok(ids)
}

pub(super) async fn retry(
    session: &mut Session<'_>,
    tasks: &[Reopen],
) -> Result<Vec<Result<(), Error>>, Fault> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let mut work = UnitOfWork::of(session, tasks.iter().map(|task| task.id)).await?;
    // Keys taken by this very call, by key and name.
    let mut taken = HashMap::new();
    let answers: Vec<_> = tasks.iter().map(|task| retry_one(&mut work, &mut taken, *task)).collect();
    session.changes |= HintSet::ALL.when(answers.iter().any(Result::is_ok));
    work.write(session).await?;
    Ok(answers)
}

fn retry_one(
    work: &mut UnitOfWork,
    keys: &mut HashMap<(String, String), TaskId>,
    Reopen { id, delay }: Reopen,
) -> Result<(), Error> {
    let row = work.row(id).ok_or(Error::NotFound { id })?;
    let key = row.idempotency_key.clone().map(|key| (key, row.name.clone()));
    let holder = row.key_holder.or_else(|| keys.get(key.as_ref()?).copied());
    // A policy that cannot be read fails the task again when it is claimed.
    let attempts = codec::policy(row.policy.as_deref()).max_attempts();
    let now = work.now;
    work.decide(id, |task| transition::retry(id, task, attempts, holder, delay, now))?;
    keys.extend(key.map(|key| (key, id)));
    Ok(())
}

pub(super) async fn delete(session: &mut Session<'_>, ids: &[TaskId]) -> Result<usize, Fault> {
    if ids.is_empty() {
        return Ok(0);
    }
    session.begin().await?;
    let ids: Vec<Uuid> = ids.iter().copied().map(Uuid::from).collect();
    let deleted = session.all(session.query(DELETE).bind(ids)).await?;
    forget(session, &deleted).await
}

pub(super) async fn replace_args(
    session: &mut Session<'_>,
    replacements: &[ReplaceArgs],
) -> Result<Vec<bool>, Fault> {
    if replacements.is_empty() {
        return Ok(Vec::new());
    }
    session.begin().await?;
    let each = || replacements.iter();
    let query = session
        .query(REPLACE_ARGS)
        .bind(each().map(|it| Uuid::from(it.id)).collect::<Vec<_>>())
        .bind(each().map(|it| escape_json(&it.from)).collect::<Vec<_>>())
        .bind(each().map(|it| escape_json(&it.to)).collect::<Vec<_>>());
    let replaced =
        session.all(query).await?.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<Uuid>, _>>()?;
    Ok(each().map(|it| replaced.contains(&Uuid::from(it.id))).collect())
}

/// Deletes the rows of a statement, together with their attempts and log lines.
async fn forget(session: &mut Session<'_>, deleted: &[PgRow]) -> Result<usize, Fault> {
    let (mut ids, mut counts) = (Vec::<Uuid>::new(), CountDeltas::default());
    for row in deleted {
        ids.push(row.try_get(0)?);
        // An ended task never counts as waiting for its first attempt, so the number of attempts does not matter.
        let state = RowState::from_number(row.try_get::<i16, _>(2)?.into());
        counts.exit(&unescape_nul(row.try_get(1)?), state, 1);
    }
    let count = ids.len();
    if count > 0 {
        session.execute(session.query(DELETE_ATTEMPTS).bind(ids.clone())).await?;
        session.execute(session.query(DELETE_LOGS).bind(ids)).await?;
    }
    counts.write(session).await?;
    Ok(count)
}

pub(super) async fn prune(
    session: &mut Session<'_>,
    retention: Retention,
    limit: usize,
) -> Result<usize, Fault> {
    session.begin().await?;
    let length = |length| super::value::length(length).min(super::value::MILLENNIUM);
    let start = &session.starts.prune;
    let (states, lengths): (Vec<i16>, Vec<_>) = Retention::STATUSES
        .map(|status| (RowState::ended(status) as i16, length(retention.of(status))))
        .into_iter()
        .unzip();
    let delete = session.query(DELETE_OLD).bind(states.clone()).bind(lengths).bind(codec::to_i64(limit));
    let deleted = session.all(delete.bind(start.of(&states))).await?;
    let pruned = forget(session, &deleted).await?;
    for row in &deleted {
        start.deleted(row.try_get(2)?, row.try_get(3)?);
    }
    if pruned < limit {
        start.reset();
        session.execute(session.query(DELETE_OLD_INSTANCES).bind(length(retention.longest()))).await?;
        session.execute(session.query(FOLD_COUNTS)).await?;
    }
    Ok(pruned.max(documents::prune(session, limit).await?))
}
