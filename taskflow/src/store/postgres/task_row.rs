//! A row while it is worked on: how it is locked and read, and how it is written back.

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::error::Fault;
use super::session::Session;
use super::sql::moment;
use super::value::{Instant, escape_json, escape_nul, unescape_nul};
use crate::model::TaskId;
use crate::store::codec;
use crate::store::row_state::RowState;
use crate::store::transition::TaskState;

/// The rows that match a condition, locked, and the other tasks that hold their keys.
macro_rules! locked {
    ($condition:literal) => {
        concat!(
            "SELECT t.id, now(), t.state, t.queue, t.name, t.attempt, t.max_attempts, t.fence, t.lost_runs,
       t.cancel_requested, t.log_lines, t.instance, t.run_at, t.started_at, t.finished_at, t.outcome, t.error,
       t.policy, t.idempotency_key, t.run_key,
       (SELECT k.id FROM taskflow_tasks k
        WHERE k.idempotency_key = t.idempotency_key AND k.name = t.name AND k.state <= 4 AND k.id <> t.id),
       (SELECT k.id FROM taskflow_tasks k
        WHERE k.run_key = t.run_key AND k.name = t.name AND k.state <= 2 AND k.attempt = 0 AND k.id <> t.id),
       t.concurrency_key, t.snoozes, t.expires_at, t.priority, t.seq
FROM taskflow_tasks t ",
            $condition
        )
    };
}

/// For changes that do not affect concurrency keys: they need no lock on the queues.
pub(super) const BY_ID_ALONE: &str = locked!("WHERE t.id = ANY($1::uuid[]) ORDER BY t.id FOR UPDATE");

/// Returns no rows if a task has a concurrency key and its queue is not locked: queues must be locked first.
pub(super) const BY_ID: &str = locked!(
    "WHERE t.id = ANY($1::uuid[]) AND NOT EXISTS (
    SELECT 1 FROM taskflow_tasks k
    WHERE k.id = ANY($1::uuid[]) AND k.concurrency_key IS NOT NULL AND k.queue <> ALL ($2::text[])
)
ORDER BY t.id FOR UPDATE"
);

/// Runs and holds whose lease has ended and that no other transaction has locked.
pub(super) const LEASE_ENDED: &str = concat!(
    locked!("WHERE (state > 0) IS TRUE AND t.state IN (2, 3) AND "),
    moment!(),
    " <= now() AND ",
    moment!(),
    " >= coalesce($3::timestamptz, '-infinity') AND (t.concurrency_key IS NULL OR t.queue = ANY($2::text[]))
LIMIT $1 FOR UPDATE SKIP LOCKED"
);

/// Waiting tasks that have expired: they may no longer be started.
pub(super) const EXPIRED: &str = locked!(
    "WHERE t.expires_at <= now() AND t.state < 2 AND (t.concurrency_key IS NULL OR t.queue = ANY($2::text[]))
ORDER BY t.expires_at LIMIT $1 FOR UPDATE SKIP LOCKED"
);

pub(super) const WITH_RUN_KEY: &str =
    locked!("WHERE t.run_key = $1 AND t.state <= 2 AND t.attempt = 0 ORDER BY t.id FOR UPDATE");

const WRITE: &str = "
UPDATE taskflow_tasks t
SET state = g.state, attempt = g.attempt, max_attempts = g.max_attempts, lost_runs = g.lost_runs,
    snoozes = g.snoozes, fence = g.fence, cancel_requested = g.cancel_requested, log_lines = g.log_lines,
    log_bytes = least(t.log_bytes, 4294967295) + g.more_log_bytes,
    instance = g.instance, lease_until = CASE WHEN g.state IN (2, 3) THEN t.lease_until END, run_at = g.run_at,
    finished_at = g.finished_at, outcome = g.outcome, error = g.error, run_key = g.run_key,
    result = coalesce(g.result, t.result),
    progress = CASE WHEN g.reopens THEN NULL ELSE coalesce(g.progress, t.progress) END,
    expires_at = CASE WHEN g.forgets_expiry THEN NULL ELSE t.expires_at END
FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bigint[], $5::integer[], $6::boolean[], $7::integer[],
            $8::bigint[], $9::uuid[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[], $14::text[],
            $15::text[], $16::text[], $17::boolean[], $18::integer[], $19::bigint[], $20::boolean[])
    AS g (id, state, attempt, max_attempts, lost_runs, cancel_requested, log_lines, more_log_bytes, instance, run_at,
          finished_at, outcome, error, run_key, result, progress, reopens, snoozes, fence, forgets_expiry)
    CROSS JOIN LATERAL (SELECT t.ctid AS place FROM taskflow_tasks t WHERE t.id = g.id OFFSET 0) AS p
WHERE t.ctid = p.place";

/// A row while it is worked on.
#[derive(Clone, Debug)]
pub(super) struct TaskRow {
    pub(super) id: TaskId,
    pub(super) state: RowState,
    pub(super) queue: String,
    pub(super) priority: i16,
    pub(super) seq: i64,
    pub(super) name: String,
    pub(super) attempt: i64,
    pub(super) max_attempts: i64,
    pub(super) fence: i64,
    pub(super) lost_runs: i32,
    pub(super) snoozes: i32,
    pub(super) cancel_requested: bool,
    pub(super) instance: Option<Uuid>,
    pub(super) run_at: i64,
    pub(super) started_at: Option<i64>,
    pub(super) finished_at: Option<i64>,
    pub(super) expires_at: Option<i64>,
    pub(super) outcome: Option<String>,
    pub(super) error: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) idempotency_key: Option<String>,
    pub(super) run_key: Option<String>,
    pub(super) concurrency_key: Option<String>,
    pub(super) key_holder: Option<TaskId>,
    pub(super) run_key_holder: Option<TaskId>,
    pub(super) result: Option<Box<str>>,
    pub(super) progress: Option<String>,
    /// A manual retry: the stored progress is cleared.
    pub(super) reopens: bool,
    pub(super) forgets_expiry: bool,
    pub(super) log_lines: i32,
    pub(super) more_log_bytes: i64,
    pub(super) is_changed: bool,
}

impl TaskRow {
    /// The state that the rules need to know.
    pub(super) fn task(&self) -> TaskState {
        TaskState {
            stage: self.state.stage(),
            attempt: codec::to_u32(self.attempt),
            max_attempts: codec::to_u32(self.max_attempts),
            // A negative fence was written by another program and matches no run.
            fence: u64::try_from(self.fence).unwrap_or(u64::MAX),
            lost_runs: codec::to_u32(self.lost_runs.into()),
            snoozes: codec::to_u32(self.snoozes.into()),
            cancel_requested: self.cancel_requested,
            has_begun: self.started_at.is_some(),
            run_at: self.run_at,
            expires_at: self.expires_at,
        }
    }

    pub(super) fn read(row: &PgRow) -> Result<Self, Fault> {
        let instant = |column: usize| row.try_get::<Option<Instant>, _>(column).map(|at| at.map(|at| at.0));
        let text =
            |column: usize| row.try_get::<Option<String>, _>(column).map(|text| text.map(unescape_nul));
        let holder = |column: usize| row.try_get::<Option<Uuid>, _>(column).map(|id| id.map(TaskId::from));
        Ok(Self {
            id: TaskId::from(row.try_get::<Uuid, _>(0)?),
            state: RowState::from_number(row.try_get::<i16, _>(2)?.into()),
            queue: unescape_nul(row.try_get(3)?),
            name: unescape_nul(row.try_get(4)?),
            attempt: row.try_get(5)?,
            max_attempts: row.try_get(6)?,
            fence: row.try_get(7)?,
            lost_runs: row.try_get(8)?,
            cancel_requested: row.try_get(9)?,
            log_lines: row.try_get(10)?,
            instance: row.try_get(11)?,
            run_at: row.try_get::<Instant, _>(12)?.0,
            started_at: instant(13)?,
            finished_at: instant(14)?,
            outcome: row.try_get(15)?,
            error: text(16)?,
            policy: row.try_get(17)?,
            idempotency_key: text(18)?,
            run_key: text(19)?,
            key_holder: holder(20)?,
            run_key_holder: holder(21)?,
            concurrency_key: text(22)?,
            snoozes: row.try_get(23)?,
            expires_at: instant(24)?,
            priority: row.try_get(25)?,
            seq: row.try_get(26)?,
            result: None,
            progress: None,
            reopens: false,
            forgets_expiry: false,
            more_log_bytes: 0,
            is_changed: false,
        })
    }
}

/// Writes the rows back.
pub(super) async fn write(session: &mut Session<'_>, rows: &[TaskRow]) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    let each = || rows.iter();
    let state = |row: &TaskRow| i16::try_from(row.state.number()).unwrap_or(i16::MAX);
    let statement = session
        .query(WRITE)
        .bind(each().map(|row| Uuid::from(row.id)).collect::<Vec<_>>())
        .bind(each().map(state).collect::<Vec<_>>())
        .bind(each().map(|row| row.attempt).collect::<Vec<_>>())
        .bind(each().map(|row| row.max_attempts).collect::<Vec<_>>())
        .bind(each().map(|row| row.lost_runs).collect::<Vec<_>>())
        .bind(each().map(|row| row.cancel_requested).collect::<Vec<_>>())
        .bind(each().map(|row| row.log_lines).collect::<Vec<_>>())
        .bind(each().map(|row| row.more_log_bytes).collect::<Vec<_>>())
        .bind(each().map(|row| row.instance).collect::<Vec<_>>())
        .bind(each().map(|row| Instant(row.run_at)).collect::<Vec<_>>())
        .bind(each().map(|row| row.finished_at.map(Instant)).collect::<Vec<_>>())
        .bind(each().map(|row| row.outcome.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|row| row.error.as_deref().map(escape_nul)).collect::<Vec<_>>())
        .bind(each().map(|row| row.run_key.as_deref().map(escape_nul)).collect::<Vec<_>>())
        .bind(each().map(|row| row.result.as_deref().map(escape_json)).collect::<Vec<_>>())
        .bind(each().map(|row| row.progress.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|row| row.reopens).collect::<Vec<_>>())
        .bind(each().map(|row| row.snoozes).collect::<Vec<_>>())
        .bind(each().map(|row| row.fence).collect::<Vec<_>>())
        .bind(each().map(|row| row.forgets_expiry).collect::<Vec<_>>());
    session.execute(statement).await.map(drop)
}
