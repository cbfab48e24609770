//! Adds tasks.
//!
//! Most batches are one statement, whose rows only the table's constraints can refuse. A batch that needs lookups first
//! (limits, replacements, keys within a group) goes through [`insert_planned`].

use std::collections::{BTreeSet, HashMap};

use sqlx::Row;

use super::answers::{Answers, begun};
use super::columns::{args, expires_at, start_number};
use super::error::Fault;
use super::insert_bulk::Fresh;
use super::insert_planned;
use super::parts::parts;
use super::search_sql::any_due;
use super::session::{Session, Statement};
use super::sql::{moment, shard};
use super::value::{Instant, escape_json, escape_nul, length};
use crate::model::{NewTask, TaskId, When, time};
use crate::store::hint_set::HintSet;
use crate::store::row_state::RowState;
use crate::store::{InsertBatch, InsertGroup, InsertTask, Inserted, InsertedAs, Refusal, Start, codec};

/// The given tasks as rows, with their times computed by the server's clock.
macro_rules! given {
    () => {
        "given AS MATERIALIZED (
    SELECT g.*, coalesce(g.at, now() + g.delay * interval '1 microsecond') AS scheduled_for,
           coalesce(g.at, now() + g.delay * interval '1 microsecond', now()) AS run_at
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[], $5::text[], $6::text[], $7::text[],
                $8::text[], $9::bigint[], $10::bigint[], $11::timestamptz[], $12::smallint[], $13::text[],
                $14::text[], $15::timestamptz[], $16::text[])
        WITH ORDINALITY AS g (id, queue, name, priority, args, tags, source, policy, max_attempts, delay, at,
                              start, idempotency_key, concurrency_key, expires_at, trace, n)
)"
    };
}

/// Writes the rows of `begun` and counts them. Rows whose id or key exists already are not written.
macro_rules! write_begun {
    () => {
        concat!(
            "written AS (
    INSERT INTO taskflow_tasks
        (id, state, queue, priority, name, attempt, max_attempts, fence, instance, lease_until, run_at, scheduled_for,
         expires_at, started_at, source, idempotency_key, concurrency_key, policy, tags, trace, args)
    SELECT id, state, queue, priority, name, (state = 3)::integer, max_attempts, (state IN (2, 3))::integer,
           CASE WHEN state IN (2, 3) THEN $17::uuid END,
           CASE WHEN state IN (2, 3) THEN now() + $18::bigint * interval '1 microsecond' END,
           run_at, scheduled_for, expires_at, CASE WHEN state = 3 THEN now() END, source, idempotency_key,
           concurrency_key, policy, tags, trace, args
    FROM begun ORDER BY n
    ON CONFLICT DO NOTHING
    RETURNING id, state, queue
), counted AS (
    INSERT INTO taskflow_counts AS c (shard, queue, pending, running, waiting_first, later)
    SELECT ",
            shard!(),
            ", queue, count(*) FILTER (WHERE state <= 2), count(*) FILTER (WHERE state = 3),
           count(*) FILTER (WHERE state <= 2), count(*) FILTER (WHERE state = 1)
    FROM written GROUP BY queue ORDER BY queue
    ON CONFLICT (shard, queue) DO UPDATE SET
        pending = c.pending + excluded.pending,
        running = c.running + excluded.running,
        waiting_first = c.waiting_first + excluded.waiting_first,
        later = c.later + excluded.later
)
SELECT id, state FROM written"
        )
    };
}

/// Inserts tasks that wait or are held.
const INSERT: &str = concat!(
    "WITH ",
    given!(),
    ", begun AS (
    SELECT *, (CASE WHEN start = 3 THEN 2 WHEN run_at <= now() THEN 0 ELSE 1 END)::smallint AS state FROM given
), ",
    write_begun!()
);

/// Inserts a batch in which some tasks may run from the start, unless their queue is paused. Tasks that start only if the
/// queue is idle do not run if a due task waits in it, including one that this very batch adds before it. A task that is
/// there already, by its id or its key, is not added.
const INSERT_TO_START: &str = concat!(
    "WITH ",
    given!(),
    ", queues AS MATERIALIZED (
    SELECT queue,
           EXISTS (SELECT 1 FROM taskflow_queues p WHERE p.name = queue AND p.paused) AS is_paused,
           ",
    any_due!("asked.queue", "$19", "$20", "$21", "$22", "$23"),
    " OR EXISTS (
               SELECT 1 FROM taskflow_tasks t
               WHERE (t.state > 0) IS TRUE AND t.state = 1 AND ",
    moment!(),
    " <= now() AND ",
    moment!(),
    " >= coalesce($24::timestamptz, '-infinity') AND t.queue = asked.queue AND (t.expires_at IS NULL OR t.expires_at > now())
           ) AS is_busy
    FROM (SELECT DISTINCT queue FROM given WHERE start IN (1, 2)) AS asked
), ordered AS (
    SELECT given.*,
           bool_or(start = 0 AND run_at <= now() AND (expires_at IS NULL OR expires_at > now()) AND NOT EXISTS (
               SELECT 1 FROM taskflow_tasks t WHERE t.id = given.id
           ) AND (idempotency_key IS NULL OR NOT EXISTS (
               SELECT 1 FROM taskflow_tasks t
               WHERE t.idempotency_key = given.idempotency_key AND t.name = given.name AND t.state <= 4
           ))) OVER (PARTITION BY queue ORDER BY n) AS is_behind
    FROM given
), begun AS (
    SELECT o.*, (CASE
        WHEN start = 3 THEN 2
        WHEN run_at > now() THEN 1
        WHEN expires_at <= now() THEN 0
        WHEN start = 2 AND NOT q.is_paused THEN 3
        WHEN start = 1 AND NOT q.is_paused AND NOT q.is_busy AND NOT o.is_behind THEN 3
        ELSE 0
    END)::smallint AS state
    FROM ordered o LEFT JOIN queues q USING (queue)
), ",
    write_begun!()
);

/// The answer that existing tasks got when this instance inserted them, if it still holds: 2 held, 3 running, 8
/// rejected, 0 none of these.
const THERE: &str = "
SELECT id,
       (CASE WHEN fence = 1 AND claim_id IS NULL AND instance = $2 AND state IN (2, 3) OR state = 8
             THEN state ELSE 0 END)::smallint
FROM taskflow_tasks WHERE id = ANY($1::uuid[])";

const KEY_HOLDER: &str = "
SELECT id FROM taskflow_tasks WHERE idempotency_key = $1 AND name = $2 AND state <= 4";

pub(super) async fn insert(session: &mut Session<'_>, batch: &InsertBatch) -> Result<Answers, Fault> {
    session.inserting = Some(session.starts.inserting());
    let is_plain = |group: &InsertGroup| {
        let alone = group.tasks.len() == 1;
        group.tasks.iter().all(|insert| {
            let has_key = insert.task.idempotency_key.is_some();
            insert.task.run_key.is_none() && insert.max_size.is_none() && (alone || !has_key)
        })
    };
    if !batch.groups.iter().all(is_plain) {
        return insert_planned::insert(session, batch).await;
    }
    let tasks: Vec<&InsertTask> = batch.groups.iter().flat_map(|group| &group.tasks).collect();
    let mut answers = insert_plain(session, batch, &tasks).await?.into_iter();
    let of_group = |group: &InsertGroup| {
        let answers: Vec<_> = answers.by_ref().take(group.tasks.len()).collect();
        answers.into_iter().collect()
    };
    Ok(batch.groups.iter().map(of_group).collect())
}

/// Inserts tasks without a `max_size` and without a run key. Only a task that is alone in its group may have an
/// idempotency key.
async fn insert_plain(
    session: &mut Session<'_>,
    batch: &InsertBatch,
    tasks: &[&InsertTask],
) -> Result<Vec<Result<Inserted, Refusal>>, Fault> {
    let parts = parts(tasks, |insert| &insert.task);
    if let Some(states) = write_fresh(session, batch, &parts).await? {
        return Ok(tasks.iter().zip(states).map(|(insert, state)| begun(insert, state)).collect());
    }
    if parts.len() > 1 {
        session.begin().await?;
    }
    let mut answers = Vec::with_capacity(tasks.len());
    for part in parts {
        let mut written = write(session, batch, part).await?;
        let missing = written.len() < part.len();
        let there = if missing { there(session, batch, part).await? } else { HashMap::new() };
        for insert in part {
            let id = insert.task.id;
            answers.push(match (written.remove(&id), there.get(&id)) {
                (Some(state), _) | (None, Some(&state)) => begun(insert, state),
                (None, None) => stands_for(session, batch, insert).await?,
            });
        }
    }
    Ok(answers)
}

/// Whether other instances must hear of these tasks, because some of them wait. A task with any other kind of start has
/// an instance that runs it.
pub(super) fn wait_for_any(tasks: &[&InsertTask]) -> bool {
    tasks.iter().any(|insert| insert.start == Start::Wait)
}

/// Writes tasks that cannot conflict with stored ones, and answers how they begin. Answers `None`, and writes
/// nothing, if there may be a conflict. It is not tried in a caller's transaction, because a conflict would abort
/// that transaction.
async fn write_fresh(
    session: &mut Session<'_>,
    batch: &InsertBatch,
    parts: &[&[&InsertTask]],
) -> Result<Option<Vec<RowState>>, Fault> {
    if session.is_in_transaction() || parts.is_empty() {
        return Ok(None);
    }
    let Some(fresh) = parts.iter().map(|part| Fresh::of(part)).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    if fresh.len() > 1 {
        session.begin().await?;
    }
    let mut begun = Vec::new();
    for part in &fresh {
        match part.write(session, batch).await {
            Ok(states) if fresh.len() == 1 => begun = states,
            Ok(states) => begun.extend(states),
            Err(fault) if fault.is_taken() => {
                session.roll_back().await?;
                return Ok(None);
            }
            Err(fault) => return Err(fault),
        }
    }
    session.changes |= HintSet::WORK.when(parts.iter().any(|part| wait_for_any(part)));
    Ok(Some(begun))
}

/// How existing tasks began.
async fn there(
    session: &mut Session<'_>,
    batch: &InsertBatch,
    tasks: &[&InsertTask],
) -> Result<HashMap<TaskId, RowState>, Fault> {
    let ids: Vec<_> = tasks.iter().map(|insert| uuid::Uuid::from(insert.task.id)).collect();
    let query = session.query(THERE).bind(ids).bind(uuid::Uuid::from(batch.instance));
    states(&session.all(query).await?)
}

/// Finds the task that has the idempotency key of this one. If that task is gone by now, inserts this one.
async fn stands_for(
    session: &mut Session<'_>,
    batch: &InsertBatch,
    insert: &InsertTask,
) -> Result<Result<Inserted, Refusal>, Fault> {
    let new = &insert.task;
    loop {
        if let Some(key) = &new.idempotency_key {
            let query = session
                .query(KEY_HOLDER)
                .bind(escape_nul(key).into_owned())
                .bind(escape_nul(&new.name).into_owned());
            if let Some(holder) = session.optional(query).await? {
                let holder: uuid::Uuid = holder.try_get(0)?;
                return Ok(Ok(Inserted::new(TaskId::from(holder), InsertedAs::Duplicate)));
            }
        }
        let mut states = write(session, batch, &[insert]).await?;
        if states.is_empty() {
            states = there(session, batch, &[insert]).await?;
        }
        if let Some(state) = states.remove(&new.id) {
            return Ok(begun(insert, state));
        }
    }
}

/// Writes tasks, and answers how those that were written begin.
async fn write(
    session: &mut Session<'_>,
    batch: &InsertBatch,
    tasks: &[&InsertTask],
) -> Result<HashMap<TaskId, RowState>, Fault> {
    if tasks.is_empty() {
        return Ok(HashMap::new());
    }
    let may_start = tasks.iter().any(|it| matches!(it.start, Start::Lease | Start::LeaseIfIdle));
    let statement = session.query(if may_start { INSERT_TO_START } else { INSERT });
    let statement = bind_tasks(statement, tasks);
    let mut statement = statement.bind(uuid::Uuid::from(batch.instance)).bind(length(batch.lease));
    if may_start {
        let names: BTreeSet<_> = tasks.iter().map(|insert| escape_nul(&insert.task.queue)).collect();
        statement = session.starts.search_any(names.iter().map(|name| &**name)).bind(statement);
    }
    let rows = session.all(statement).await?;
    session.changes |= HintSet::WORK.when(!rows.is_empty() && wait_for_any(tasks));
    states(&rows)
}

fn states(rows: &[sqlx::postgres::PgRow]) -> Result<HashMap<TaskId, RowState>, Fault> {
    let state = |row: &sqlx::postgres::PgRow| {
        let state = RowState::from_number(row.try_get::<i16, _>(1)?.into());
        Ok((TaskId::from(row.try_get::<uuid::Uuid, _>(0)?), state))
    };
    rows.iter().map(state).collect()
}

fn bind_tasks(statement: Statement, tasks: &[&InsertTask]) -> Statement {
    let each = || tasks.iter().map(|insert| &insert.task);
    let delay = |new: &NewTask| match new.when {
        When::In(delay) => Some(length(delay)),
        _ => None,
    };
    let at = |new: &NewTask| match new.when {
        When::At(at) => Some(Instant(time::to_micros(at))),
        _ => None,
    };
    statement
        .bind(each().map(|new| uuid::Uuid::from(new.id)).collect::<Vec<_>>())
        .bind(each().map(|new| escape_nul(&new.queue)).collect::<Vec<_>>())
        .bind(each().map(|new| escape_nul(&new.name)).collect::<Vec<_>>())
        .bind(each().map(|new| new.priority).collect::<Vec<_>>())
        .bind(each().map(|new| escape_json(args(new))).collect::<Vec<_>>())
        .bind(each().map(|new| codec::tags_json(&new.tags)).collect::<Vec<_>>())
        .bind(each().map(|new| new.source.as_str()).collect::<Vec<_>>())
        .bind(each().map(|new| codec::policy_json(&new.policy)).collect::<Vec<_>>())
        .bind(each().map(|new| i64::from(new.policy.max_attempts())).collect::<Vec<_>>())
        .bind(each().map(delay).collect::<Vec<_>>())
        .bind(each().map(at).collect::<Vec<_>>())
        .bind(tasks.iter().map(|insert| start_number(insert.start)).collect::<Vec<_>>())
        .bind(each().map(|new| new.idempotency_key.as_deref().map(escape_nul)).collect::<Vec<_>>())
        .bind(each().map(|new| new.concurrency_key.as_deref().map(escape_nul)).collect::<Vec<_>>())
        .bind(each().map(expires_at).collect::<Vec<_>>())
        .bind(each().map(|new| codec::trace_text(new.trace.as_ref())).collect::<Vec<_>>())
}
