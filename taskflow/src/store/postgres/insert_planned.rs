//! Adds that need lookups first: into queues with a limit, in place of a waiting task, with keys inside a group.
//!
//! It is one transaction. It locks the rows of limited queues, so that no two adds count the same free place; looks
//! up the existing tasks and keys; goes through the groups one by one; and writes the result. If another transaction
//! creates a conflict meanwhile, a constraint refuses the write, and the whole transaction is repeated.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;
use uuid::Uuid;

use super::answers::Answers;
use super::columns::{args, expires_at};
use super::concurrency_keys;
use super::error::Fault;
use super::insert_plan::{Plan, Queue, Waiting, due};
use super::parts::parts;
use super::queue;
use super::search_starts::DueAgain;
use super::session::Session;
use super::sql::{moment, total};
use super::value::{Instant, escape_json, escape_nul, length, unescape_nul};
use crate::model::{NewTask, TaskId};
use crate::store::hint_set::HintSet;
use crate::store::row_state::RowState;
use crate::store::{InsertBatch, InsertTask, codec};

const LOOK_AT_QUEUES: &str = concat!(
    "
SELECT a.queue, now(),
       EXISTS (SELECT 1 FROM taskflow_queues p WHERE p.name = a.queue AND p.paused),
       (SELECT ",
    total!("c.waiting_first"),
    " FROM taskflow_counts c WHERE c.queue = a.queue),
       (SELECT count(*) FROM (
            SELECT 1 FROM taskflow_tasks t
            WHERE t.state = 0 AND t.queue = a.queue AND (t.expires_at IS NULL OR t.expires_at > now()) LIMIT $2
        ) ready)
       + (SELECT count(*) FROM (
            SELECT 1 FROM taskflow_tasks t
            WHERE (t.state > 0) IS TRUE AND t.state = 1 AND ",
    moment!(),
    " <= now() AND t.queue = a.queue
              AND (t.expires_at IS NULL OR t.expires_at > now()) LIMIT $2
        ) come_due)
FROM unnest($1::text[]) AS a (queue)"
);

const LOOK_AT_KEYS: &str = "
SELECT (SELECT (CASE
            WHEN t.fence = 1 AND t.claim_id IS NULL AND t.instance = $5 AND t.state IN (2, 3) THEN t.state
            WHEN t.state = 8 THEN 8
            ELSE 0
        END)::smallint FROM taskflow_tasks t WHERE t.id = a.id),
       (SELECT t.id FROM taskflow_tasks t
        WHERE t.idempotency_key = a.idempotency_key AND t.name = a.name AND t.state <= 4),
       r.id, r.queue
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
    AS a (id, name, idempotency_key, run_key, n)
LEFT JOIN LATERAL (
    SELECT t.id, CASE WHEN t.concurrency_key IS NOT NULL THEN t.queue END AS queue FROM taskflow_tasks t
    WHERE t.run_key = a.run_key AND t.name = a.name AND t.state <= 2 AND t.attempt = 0
) r ON true
ORDER BY a.n";

/// Tasks that can be replaced. A task that was claimed meanwhile is no longer among them.
const LOCK_WAITING: &str = "
SELECT id, queue, state, concurrency_key FROM taskflow_tasks
WHERE id = ANY($1::uuid[]) AND state <= 2 AND attempt = 0 ORDER BY id FOR UPDATE";

const INSERT: &str = "
INSERT INTO taskflow_tasks
    (id, state, queue, priority, name, attempt, max_attempts, fence, instance, lease_until, run_at, scheduled_for,
     started_at, source, idempotency_key, run_key, policy, tags, args, concurrency_key, expires_at, error, trace, finished_at)
SELECT g.id, g.state, g.queue, g.priority, g.name, (g.state = 3)::integer, g.max_attempts,
       (g.state IN (2, 3))::integer,
       CASE WHEN g.state IN (2, 3) THEN $19::uuid END,
       CASE WHEN g.state IN (2, 3) THEN now() + $20::bigint * interval '1 microsecond' END,
       g.run_at, g.scheduled_for, CASE WHEN g.state = 3 THEN now() END, g.source, g.idempotency_key, g.run_key,
       g.policy, g.tags, g.args, g.concurrency_key, g.expires_at, g.error, g.trace, CASE WHEN g.state = 8 THEN now() END
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::smallint[], $5::text[], $6::bigint[], $7::timestamptz[],
            $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
            $15::text[], $16::timestamptz[], $17::text[], $18::text[])
    WITH ORDINALITY
    AS g (id, state, queue, priority, name, max_attempts, run_at, scheduled_for, source, idempotency_key, run_key,
          policy, tags, args, concurrency_key, expires_at, error, trace, n)
ORDER BY g.n
ON CONFLICT DO NOTHING";

const REPLACE: &str = "
UPDATE taskflow_tasks t
SET state = g.state, queue = g.queue, priority = g.priority, max_attempts = g.max_attempts, run_at = g.run_at,
    scheduled_for = g.scheduled_for, policy = g.policy, tags = g.tags, args = g.args,
    concurrency_key = g.concurrency_key, expires_at = g.expires_at, trace = g.trace
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::smallint[], $5::bigint[], $6::timestamptz[],
            $7::timestamptz[], $8::text[], $9::text[], $10::text[], $11::text[], $12::timestamptz[], $13::text[])
    AS g (id, state, queue, priority, max_attempts, run_at, scheduled_for, policy, tags, args, concurrency_key,
          expires_at, trace)
WHERE t.id = g.id";

pub(super) async fn insert(session: &mut Session<'_>, batch: &InsertBatch) -> Result<Answers, Fault> {
    session.begin().await?;
    let tasks: Vec<&InsertTask> = batch.groups.iter().flat_map(|group| &group.tasks).collect();
    let mut plan = Plan::default();
    plan.look_at_keys(session, batch, &tasks).await?;
    let limited =
        tasks.iter().filter(|it| it.max_size.is_some()).map(|it| escape_nul(&it.task.queue).into_owned());
    let queues = limited.chain(std::mem::take(&mut plan.keyed_queues)).collect();
    queue::lock(session, queues).await?;
    plan.lock_waiting(session).await?;
    plan.look_at_queues(session, &tasks).await?;
    let answers = batch.groups.iter().map(|group| plan.group(group)).collect();
    plan.write(session, batch).await?;
    Ok(answers)
}

impl<'b> Plan<'b> {
    async fn look_at_keys(
        &mut self,
        session: &mut Session<'_>,
        batch: &InsertBatch,
        tasks: &[&'b InsertTask],
    ) -> Result<(), Fault> {
        let kept = |key: &'b Option<String>| key.as_deref().map(escape_nul);
        for part in parts(tasks, |insert| &insert.task) {
            let each = || part.iter().map(|insert| &insert.task);
            let query = session
                .query(LOOK_AT_KEYS)
                .bind(each().map(|new| Uuid::from(new.id)).collect::<Vec<_>>())
                .bind(each().map(|new| escape_nul(&new.name)).collect::<Vec<_>>())
                .bind(each().map(|new| kept(&new.idempotency_key)).collect::<Vec<_>>())
                .bind(each().map(|new| kept(&new.run_key)).collect::<Vec<_>>())
                .bind(Uuid::from(batch.instance));
            for (new, row) in each().zip(session.all(query).await?) {
                if let Some(state) = row.try_get::<Option<i16>, _>(0)? {
                    self.there.insert(new.id, RowState::from_number(state.into()));
                }
                let holder = |column: usize| row.try_get::<Option<Uuid>, _>(column);
                if let (Some(key), Some(holder)) = (&new.idempotency_key, holder(1)?) {
                    self.keys.insert((key, &new.name), TaskId::from(holder));
                }
                if let (Some(key), Some(holder)) = (&new.run_key, holder(2)?) {
                    self.run_keys.insert((key, &new.name), TaskId::from(holder));
                    self.keyed_queues.extend(row.try_get::<Option<String>, _>(3)?);
                }
            }
        }
        Ok(())
    }

    async fn lock_waiting(&mut self, session: &mut Session<'_>) -> Result<(), Fault> {
        let holders: BTreeSet<TaskId> = self.run_keys.values().copied().collect();
        if holders.is_empty() {
            return Ok(());
        }
        let expected = holders.len();
        let holders: Vec<Uuid> = holders.into_iter().map(Uuid::from).collect();
        let rows = session.all(session.query(LOCK_WAITING).bind(holders)).await?;
        if rows.len() < expected {
            return Err(Fault::Again("a task to be replaced has started"));
        }
        for row in rows {
            let state = RowState::from_number(row.try_get::<i16, _>(2)?.into());
            let concurrency_key = row.try_get::<Option<String>, _>(3)?.map(unescape_nul);
            let waiting =
                Waiting { queue: unescape_nul(row.try_get(1)?), state, concurrency_key, with: None };
            self.waiting.insert(TaskId::from(row.try_get::<Uuid, _>(0)?), waiting);
        }
        Ok(())
    }

    async fn look_at_queues(
        &mut self,
        session: &mut Session<'_>,
        tasks: &[&'b InsertTask],
    ) -> Result<(), Fault> {
        let of_new = tasks.iter().map(|insert| &*insert.task.queue);
        let of_waiting = self.waiting.values().map(|waiting| waiting.queue.as_str());
        let names: BTreeSet<_> = of_new.chain(of_waiting).map(escape_nul).collect();
        let names: Vec<_> = names.into_iter().collect();
        // It is enough to count one more than this batch could take away.
        let enough = codec::to_i64(tasks.len() + 1);
        let query = session.query(LOOK_AT_QUEUES).bind(names).bind(enough);
        for row in session.all(query).await? {
            self.now = row.try_get::<Instant, _>(1)?.0;
            let queue =
                Queue { is_paused: row.try_get(2)?, waiting_first: row.try_get(3)?, due: row.try_get(4)? };
            self.queues.insert(unescape_nul(row.try_get(0)?), queue);
        }
        Ok(())
    }

    async fn write(self, session: &mut Session<'_>, batch: &InsertBatch) -> Result<(), Fault> {
        let replaced: BTreeMap<TaskId, (&NewTask, RowState)> =
            self.waiting.iter().filter_map(|(id, it)| Some((*id, (it.with?, it.state)))).collect();
        if !replaced.is_empty() {
            let each = || replaced.values().map(|(new, _)| *new);
            let replace = session
                .query(REPLACE)
                .bind(replaced.keys().map(|id| Uuid::from(*id)).collect::<Vec<_>>())
                .bind(replaced.values().map(|(_, state)| column(*state)).collect::<Vec<_>>())
                .bind(each().map(|new| escape_nul(&new.queue)).collect::<Vec<_>>())
                .bind(each().map(|new| new.priority).collect::<Vec<_>>())
                .bind(each().map(|new| i64::from(new.policy.max_attempts())).collect::<Vec<_>>())
                .bind(each().map(|new| Instant(due(new, self.now).0)).collect::<Vec<_>>())
                .bind(each().map(|new| due(new, self.now).1.map(Instant)).collect::<Vec<_>>())
                .bind(each().map(|new| codec::policy_json(&new.policy)).collect::<Vec<_>>())
                .bind(each().map(|new| codec::tags_json(&new.tags)).collect::<Vec<_>>())
                .bind(each().map(|new| escape_json(args(new))).collect::<Vec<_>>())
                .bind(each().map(|new| new.concurrency_key.as_deref().map(escape_nul)).collect::<Vec<_>>())
                .bind(each().map(expires_at).collect::<Vec<_>>())
                .bind(each().map(|new| codec::trace_text(new.trace.as_ref())).collect::<Vec<_>>());
            session.execute(replace).await?;
            // The `seq` of the replaced task is not known here.
            let again = |(id, (new, _)): (&TaskId, &(&NewTask, RowState))| {
                DueAgain::new(*id, escape_nul(&new.queue).into_owned(), new.priority, i64::MIN)
            };
            session.due_again.extend(replaced.iter().map(again));
        }
        for part in parts(&self.new, |new| new.with) {
            let each = || part.iter().map(|it| it.with);
            let first = || part.iter().map(|it| it.task);
            let insert = session
                .query(INSERT)
                .bind(first().map(|new| Uuid::from(new.id)).collect::<Vec<_>>())
                .bind(part.iter().map(|it| column(it.state)).collect::<Vec<_>>())
                .bind(each().map(|new| escape_nul(&new.queue)).collect::<Vec<_>>())
                .bind(each().map(|new| new.priority).collect::<Vec<_>>())
                .bind(each().map(|new| escape_nul(&new.name)).collect::<Vec<_>>())
                .bind(each().map(|new| i64::from(new.policy.max_attempts())).collect::<Vec<_>>())
                .bind(each().map(|new| Instant(due(new, self.now).0)).collect::<Vec<_>>())
                .bind(each().map(|new| due(new, self.now).1.map(Instant)).collect::<Vec<_>>())
                .bind(first().map(|new| new.source.as_str()).collect::<Vec<_>>())
                .bind(first().map(|new| new.idempotency_key.as_deref().map(escape_nul)).collect::<Vec<_>>())
                .bind(first().map(|new| new.run_key.as_deref().map(escape_nul)).collect::<Vec<_>>())
                .bind(each().map(|new| codec::policy_json(&new.policy)).collect::<Vec<_>>())
                .bind(each().map(|new| codec::tags_json(&new.tags)).collect::<Vec<_>>())
                .bind(each().map(|new| escape_json(args(new))).collect::<Vec<_>>())
                .bind(each().map(|new| new.concurrency_key.as_deref().map(escape_nul)).collect::<Vec<_>>())
                .bind(each().map(expires_at).collect::<Vec<_>>())
                .bind(part.iter().map(|it| it.error.as_deref().map(escape_nul)).collect::<Vec<_>>())
                .bind(each().map(|new| codec::trace_text(new.trace.as_ref())).collect::<Vec<_>>())
                .bind(Uuid::from(batch.instance))
                .bind(length(batch.lease));
            if session.execute(insert).await? != part.len() as u64 {
                return Err(Fault::Again("another add with the same id or key was faster"));
            }
        }
        session.changes |= HintSet::WORK.when(!self.new.is_empty()) | HintSet::ALL.when(!replaced.is_empty());
        concurrency_keys::unblock_next(session, &self.freed).await?;
        self.counts.write(session).await
    }
}

fn column(state: RowState) -> i16 {
    i16::try_from(state.number()).unwrap_or(i16::MAX)
}
