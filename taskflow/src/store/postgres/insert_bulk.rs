//! Adds tasks that cannot conflict with stored ones: they have no idempotency key and no run key, and their ids are
//! new.
//!
//! The database only has to say which queues are paused or busy; the rest is known before. The rows go straight from
//! the arrays into the table: nothing looks for existing rows, and there is no answer for each row. If an id exists
//! all the same, because an add is repeated after its answer was lost, the table refuses the whole statement.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use sqlx::Row;
use uuid::Uuid;

use super::columns::{args, expires_at, start_number};
use super::error::Fault;
use super::search_sql::any_due;
use super::session::{Session, Statement};
use super::sql::{moment, shard};
use super::value::{Instant, escape_json, escape_nul, length};
use crate::model::{NewTask, TaskSource, When, time};
use crate::store::row_state::RowState;
use crate::store::{InsertBatch, InsertTask, Start, codec};

/// The given tasks. Several `unnest` calls in one select list return their rows side by side, with NULL where one has
/// no more rows. So a column that no task has a value for is an empty array. This costs a third of what one `unnest` of
/// all arrays costs.
macro_rules! given {
    () => {
        "(
    SELECT unnest($1::uuid[]) AS id, unnest($2::text[]) AS queue, unnest($3::text[]) AS name,
           unnest($4::text[]) AS args, unnest($5::smallint[]) AS priority, unnest($6::text[]) AS tags,
           unnest($7::text[]) AS source, unnest($8::text[]) AS policy, unnest($9::bigint[]) AS max_attempts,
           unnest($10::bigint[]) AS delay, unnest($11::timestamptz[]) AS at, unnest($12::text[]) AS concurrency_key,
           unnest($13::timestamptz[]) AS expires_at, unnest($14::smallint[]) AS start, unnest($15::text[]) AS trace
) AS g"
    };
}

/// When a task with a given time is due.
macro_rules! given_time {
    () => {
        "coalesce(at, now() + delay * interval '1 microsecond')"
    };
}

/// How many tasks of a queue are not due yet, if any has a given time.
macro_rules! later {
    () => {
        concat!(
            "CASE WHEN a.timed THEN (
        SELECT count(*) FROM ",
            given!(),
            " WHERE g.queue = a.queue AND ",
            given_time!(),
            " > now() AND coalesce(start, 0) <> 3
    ) ELSE 0 END"
        )
    };
}

macro_rules! into_counts {
    () => {
        "
    ON CONFLICT (shard, queue) DO UPDATE SET
        pending = c.pending + excluded.pending,
        running = c.running + excluded.running,
        waiting_first = c.waiting_first + excluded.waiting_first,
        later = c.later + excluded.later"
    };
}

/// Inserts tasks that wait.
const WAIT: &str = concat!(
    "WITH written AS (
    INSERT INTO taskflow_tasks
        (id, state, queue, priority, name, max_attempts, run_at, scheduled_for, expires_at, source, concurrency_key,
         policy, tags, trace, args)
    SELECT id, CASE WHEN ",
    given_time!(),
    " > now() THEN 1 ELSE 0 END, queue, coalesce(priority, 0), name, coalesce(max_attempts, 1),
           coalesce(at, now() + delay * interval '1 microsecond', now()), ",
    given_time!(),
    ", expires_at, coalesce(source, 'manager'), concurrency_key, policy, tags, trace, args
    FROM ",
    given!(),
    "
)
INSERT INTO taskflow_counts AS c (shard, queue, pending, running, waiting_first, later)
SELECT ",
    shard!(),
    ", a.queue, a.tasks, 0, a.tasks, ",
    later!(),
    "
FROM unnest($16::text[], $17::bigint[], $18::boolean[]) AS a (queue, tasks, timed)",
    into_counts!(),
);

/// Inserts a batch in which some tasks are held, or run from the start unless their queue is paused. Tasks that start only
/// if the queue is idle do not run if a due task waits in it. `start`: 1 if the queue is idle, 2 at once, 3 held.
const BEGIN: &str = concat!(
    "WITH asked AS MATERIALIZED (
    SELECT a.*,
           NOT EXISTS (SELECT 1 FROM taskflow_queues p WHERE p.name = a.queue AND p.paused) AS may_start,
           a.if_idle > 0 AND NOT ",
    any_due!("a.queue", "$23", "$24", "$25", "$26", "$27"),
    " AND NOT EXISTS (
               SELECT 1 FROM taskflow_tasks t
               WHERE (t.state > 0) IS TRUE AND t.state = 1 AND ",
    moment!(),
    " <= now() AND ",
    moment!(),
    " >= coalesce($28::timestamptz, '-infinity') AND t.queue = a.queue AND (t.expires_at IS NULL OR t.expires_at > now())
           ) AS is_idle
    FROM unnest($16::text[], $17::bigint[], $18::boolean[], $19::bigint[], $20::bigint[])
        AS a (queue, tasks, timed, if_idle, at_once)
), begun AS (
    SELECT *, (CASE
        WHEN start = 3 THEN 2
        WHEN start = 2 AND queue = ANY (ARRAY(SELECT queue FROM asked WHERE may_start)) THEN 3
        WHEN start = 1 AND queue = ANY (ARRAY(SELECT queue FROM asked WHERE may_start AND is_idle)) THEN 3
        WHEN ",
    given_time!(),
    " > now() THEN 1
        ELSE 0
    END)::smallint AS state
    FROM ",
    given!(),
    " OFFSET 0
), written AS (
    INSERT INTO taskflow_tasks
        (id, state, queue, priority, name, attempt, max_attempts, fence, instance, lease_until, run_at, scheduled_for,
         expires_at, started_at, source, concurrency_key, policy, tags, trace, args)
    SELECT id, state, queue, coalesce(priority, 0), name, (state = 3)::integer, coalesce(max_attempts, 1),
           (state > 1)::integer, CASE WHEN state > 1 THEN $21::uuid END,
           CASE WHEN state > 1 THEN now() + $22::bigint * interval '1 microsecond' END,
           coalesce(at, now() + delay * interval '1 microsecond', now()), ",
    given_time!(),
    ", expires_at, CASE WHEN state = 3 THEN now() END, coalesce(source, 'manager'), concurrency_key, policy, tags, trace, args
    FROM begun
), counted AS (
    INSERT INTO taskflow_counts AS c (shard, queue, pending, running, waiting_first, later)
    SELECT ",
    shard!(),
    ", a.queue, a.tasks - a.begun, a.begun, a.tasks - a.begun, ",
    later!(),
    "
    FROM (
        SELECT *, CASE WHEN may_start THEN at_once + CASE WHEN is_idle THEN if_idle ELSE 0 END ELSE 0 END AS begun
        FROM asked
    ) AS a",
    into_counts!(),
    "
)
SELECT queue, may_start, may_start AND is_idle FROM asked"
);

/// A batch that cannot conflict with stored tasks.
pub(super) struct Fresh<'b> {
    tasks: &'b [&'b InsertTask],
    /// How each task begins, as far as this batch decides it.
    starts: Vec<Start>,
    queues: BTreeMap<&'b str, Numbers>,
}

#[derive(Default)]
struct Numbers {
    tasks: i64,
    if_idle: i64,
    at_once: i64,
    timed: bool,
    /// A task of this batch waits in the queue and is due.
    is_busy: bool,
    /// A task of this batch waits in the queue, and only the server's clock can decide whether it is due.
    may_be_busy: bool,
}

impl<'b> Fresh<'b> {
    /// `None` if a task of the batch has an idempotency key, or if only the server's clock can decide what starts.
    pub(super) fn of(tasks: &'b [&'b InsertTask]) -> Option<Self> {
        let mut queues: BTreeMap<&str, Numbers> = BTreeMap::new();
        let mut starts = Vec::with_capacity(tasks.len());
        for insert in tasks {
            let new = &insert.task;
            if new.idempotency_key.is_some() {
                return None;
            }
            let queue = queues.entry(&new.queue).or_default();
            starts.push(queue.take(insert)?);
        }
        Some(Self { tasks, starts, queues })
    }

    /// Writes the tasks, and answers how each begins, in their order. For every task that waits the answer is `Due`,
    /// even if the task comes due later. Nothing is written if an id exists already.
    pub(super) async fn write(
        &self,
        session: &mut Session<'_>,
        batch: &InsertBatch,
    ) -> Result<Vec<RowState>, Fault> {
        if self.starts.iter().all(|start| *start == Start::Wait) {
            let statement = self.bind(session.query(WAIT));
            session.execute(statement).await?;
            return Ok(vec![RowState::Due; self.tasks.len()]);
        }
        let number = |number: fn(&Numbers) -> i64| self.queues.values().map(number).collect::<Vec<_>>();
        let statement = self
            .bind(session.query(BEGIN))
            .bind(number(|it| it.if_idle))
            .bind(number(|it| it.at_once))
            .bind(Uuid::from(batch.instance))
            .bind(length(batch.lease));
        let names: Vec<_> = self.queues.keys().map(|queue| escape_nul(queue)).collect();
        let statement = session.starts.search_any(names.iter().map(|name| &**name)).bind(statement);
        let mut may = HashMap::new();
        for row in session.all(statement).await? {
            may.insert(
                row.try_get::<String, _>(0)?,
                (row.try_get::<bool, _>(1)?, row.try_get::<bool, _>(2)?),
            );
        }
        let may =
            |insert: &InsertTask| may.get(&*escape_nul(&insert.task.queue)).copied().unwrap_or_default();
        let begun = |(insert, start): (&&InsertTask, &Start)| match start {
            Start::Hold => RowState::Held,
            Start::Lease if may(insert).0 => RowState::Running,
            Start::LeaseIfIdle if may(insert).1 => RowState::Running,
            _ => RowState::Due,
        };
        Ok(self.tasks.iter().zip(&self.starts).map(begun).collect())
    }

    fn bind(&self, statement: Statement) -> Statement {
        let each = || self.tasks.iter().map(|insert| &insert.task);
        let number = |number: fn(&Numbers) -> i64| self.queues.values().map(number).collect::<Vec<_>>();
        statement
            .bind(each().map(|new| Uuid::from(new.id)).collect::<Vec<_>>())
            .bind(each().map(|new| escape_nul(&new.queue)).collect::<Vec<_>>())
            .bind(each().map(|new| escape_nul(&new.name)).collect::<Vec<_>>())
            .bind(each().map(|new| escape_json(args(new))).collect::<Vec<_>>())
            .bind(column(each().map(|new| unless(new.priority, 0))))
            .bind(column(each().map(|new| codec::tags_json(&new.tags))))
            .bind(column(each().map(|new| unless(new.source, TaskSource::Manager).map(TaskSource::as_str))))
            .bind(column(each().map(|new| codec::policy_json(&new.policy))))
            .bind(column(each().map(|new| unless(i64::from(new.policy.max_attempts()), 1))))
            .bind(column(each().map(delay)))
            .bind(column(each().map(at)))
            .bind(column(each().map(|new| new.concurrency_key.as_deref().map(escape_nul))))
            .bind(column(each().map(expires_at)))
            .bind(column(self.starts.iter().map(|start| unless(start_number(*start), 0))))
            .bind(column(each().map(|new| codec::trace_text(new.trace.as_ref()))))
            .bind(self.queues.keys().map(|queue| escape_nul(queue)).collect::<Vec<Cow<'_, str>>>())
            .bind(number(|it| it.tasks))
            .bind(self.queues.values().map(|it| it.timed).collect::<Vec<_>>())
    }
}

impl Numbers {
    /// Counts a task, and answers how it begins. `None` if only the server can decide.
    fn take(&mut self, insert: &InsertTask) -> Option<Start> {
        let new = &insert.task;
        self.tasks += 1;
        self.timed |= new.when != When::Now;
        let is_plain = new.when == When::Now && new.expires_at.is_none();
        match insert.start {
            Start::Wait => match new.when {
                When::In(delay) if !delay.is_zero() => {}
                _ if is_plain => self.is_busy = true,
                _ => self.may_be_busy = true,
            },
            Start::Hold => {}
            Start::Lease | Start::LeaseIfIdle if !is_plain => return None,
            Start::Lease => self.at_once += 1,
            Start::LeaseIfIdle if self.is_busy => return Some(Start::Wait),
            Start::LeaseIfIdle if self.may_be_busy => return None,
            Start::LeaseIfIdle => self.if_idle += 1,
        }
        Some(insert.start)
    }
}

/// A column of an insert: empty if no task has a value in it.
fn column<T>(values: impl Iterator<Item = Option<T>>) -> Vec<Option<T>> {
    let values: Vec<Option<T>> = values.collect();
    if values.iter().all(Option::is_none) { Vec::new() } else { values }
}

/// The value, or `None` if it is the column's default.
fn unless<T: Copy + PartialEq>(value: T, default: T) -> Option<T> {
    (value != default).then_some(value)
}

fn delay(new: &NewTask) -> Option<i64> {
    match new.when {
        When::In(delay) => Some(length(delay)),
        _ => None,
    }
}

fn at(new: &NewTask) -> Option<Instant> {
    match new.when {
        When::At(at) => Some(Instant(time::to_micros(at))),
        _ => None,
    }
}
