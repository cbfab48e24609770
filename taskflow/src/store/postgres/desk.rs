//! Where rows are worked on one by one.
//!
//! What a statement cannot do to many rows at once (retries, reports, cancels, recovery) is done here: the rows are
//! locked and read together, changed in memory by the rules of the contract, and written together. Three to five
//! statements, whatever the number of rows.

use std::collections::{BTreeMap, HashMap};

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::error::Fault;
use super::keys::{self, Freed};
use super::ledger::Ledger;
use super::queue;
use super::session::{Session, Statement};
use super::sql::moment;
use super::value::{Instant, give, keep, keep_json};
use crate::model::{AttemptOutcome, LogLine, Progress, TaskId, time};
use crate::store::state::State;
use crate::store::words;

/// The rows of a condition, locked. Who else holds their keys is asked too.
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
       t.concurrency_key, t.snoozes
FROM taskflow_tasks t ",
            $condition
        )
    };
}

const HELD_OR_RUNNING: &str =
    locked!("WHERE t.id = ANY($1::uuid[]) AND t.state IN (2, 3) ORDER BY t.id FOR UPDATE");

/// None if one has a concurrency key and its queue is not among those that are locked: they come first.
const BY_ID: &str = locked!(
    "WHERE t.id = ANY($1::uuid[]) AND NOT EXISTS (
    SELECT 1 FROM taskflow_tasks k
    WHERE k.id = ANY($1::uuid[]) AND k.concurrency_key IS NOT NULL AND k.queue <> ALL ($2::text[])
)
ORDER BY t.id FOR UPDATE"
);

/// Runs and holds whose lease has ended, and that nobody else is moving on.
pub(super) const LEASE_ENDED: &str = concat!(
    locked!("WHERE (state > 0) IS TRUE AND t.state IN (2, 3) AND "),
    moment!(),
    " <= now() AND (t.concurrency_key IS NULL OR t.queue = ANY($2::text[]))
LIMIT $1 FOR UPDATE SKIP LOCKED"
);

/// What has waited until it may no longer be started.
pub(super) const EXPIRED: &str = locked!(
    "WHERE t.expires_at <= now() AND t.state < 2 AND (t.concurrency_key IS NULL OR t.queue = ANY($2::text[]))
ORDER BY t.expires_at LIMIT $1 FOR UPDATE SKIP LOCKED"
);

pub(super) const WITH_RUN_KEY: &str =
    locked!("WHERE t.run_key = $1 AND t.state <= 2 AND t.attempt = 0 ORDER BY t.id FOR UPDATE");

const WRITE: &str = "
UPDATE taskflow_tasks t
SET state = g.state, attempt = g.attempt, max_attempts = g.max_attempts, lost_runs = g.lost_runs,
    snoozes = g.snoozes, cancel_requested = g.cancel_requested, log_lines = g.log_lines, log_bytes = t.log_bytes + g.more_log_bytes,
    instance = g.instance, lease_until = CASE WHEN g.state IN (2, 3) THEN t.lease_until END, run_at = g.run_at,
    finished_at = g.finished_at, outcome = g.outcome, error = g.error, run_key = g.run_key,
    result = coalesce(g.result, t.result),
    progress = CASE WHEN g.forgets_progress THEN NULL ELSE coalesce(g.progress, t.progress) END
FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bigint[], $5::integer[], $6::boolean[], $7::integer[],
            $8::bigint[], $9::uuid[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[], $14::text[],
            $15::text[], $16::text[], $17::boolean[], $18::integer[])
    AS g (id, state, attempt, max_attempts, lost_runs, cancel_requested, log_lines, more_log_bytes, instance, run_at,
          finished_at, outcome, error, run_key, result, progress, forgets_progress, snoozes)
    CROSS JOIN LATERAL (SELECT t.ctid AS place FROM taskflow_tasks t WHERE t.id = g.id OFFSET 0) AS p
WHERE t.ctid = p.place";

const WRITE_ATTEMPTS: &str = "
INSERT INTO taskflow_attempts (task, number, instance, started_at, finished_at, outcome, error)
SELECT g.task, g.number, g.instance, g.started_at, g.finished_at, g.outcome, g.error
FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[])
    WITH ORDINALITY AS g (task, number, instance, started_at, finished_at, outcome, error, n)
ORDER BY g.n";

const WRITE_LINES: &str = "
INSERT INTO taskflow_logs (task, n, attempt, at, level, message)
SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::timestamptz[], $5::text[], $6::text[])";

/// A row as it is while it is worked on.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) id: TaskId,
    pub(super) state: State,
    pub(super) queue: String,
    pub(super) name: String,
    pub(super) attempt: i64,
    pub(super) max_attempts: i64,
    pub(super) fence: i64,
    pub(super) lost_runs: i32,
    pub(super) snoozes: i32,
    pub(super) cancel_requested: bool,
    pub(super) instance: Option<Uuid>,
    pub(super) run_at: i64,
    started_at: Option<i64>,
    pub(super) finished_at: Option<i64>,
    pub(super) outcome: Option<String>,
    pub(super) error: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) idempotency_key: Option<String>,
    run_key: Option<String>,
    concurrency_key: Option<String>,
    pub(super) key_holder: Option<TaskId>,
    run_key_holder: Option<TaskId>,
    pub(super) result: Option<Box<str>>,
    progress: Option<String>,
    pub(super) forgets_progress: bool,
    log_lines: i32,
    more_log_bytes: i64,
    is_changed: bool,
}

/// A row that is to wait again.
#[derive(Clone, Debug)]
pub(super) struct Waits {
    pub(super) attempt: i64,
    pub(super) run_at: i64,
    pub(super) lost_runs: i32,
    pub(super) error: Option<String>,
}

/// A row that is to end other than well.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    pub(super) state: State,
    pub(super) attempt: i64,
    pub(super) lost_runs: i32,
    pub(super) error: String,
    /// How the attempt ended that is in the row and stays there; `None` if there is none.
    pub(super) outcome: Option<AttemptOutcome>,
}

/// A former attempt that is to be written down.
#[derive(Debug)]
struct Past {
    task: Uuid,
    number: i64,
    instance: Uuid,
    started_at: i64,
    finished_at: i64,
    outcome: &'static str,
    error: Option<String>,
}

#[derive(Debug)]
struct Line {
    task: Uuid,
    n: i32,
    line: LogLine,
}

/// The rows one call works on.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) now: i64,
    lives: BTreeMap<TaskId, Life>,
    /// Run keys that tasks on this desk have come to hold, by key and name.
    run_keys: HashMap<(String, String), TaskId>,
    ledger: Ledger,
    freed: Freed,
    past: Vec<Past>,
    lines: Vec<Line>,
}

impl Desk {
    /// Locks the rows of those of these tasks that are held or run. They may stay so or begin to wait, and not more.
    pub(super) async fn of_leased(
        session: &mut Session<'_>,
        ids: impl IntoIterator<Item = TaskId>,
    ) -> Result<Self, Fault> {
        session.begin().await?;
        let query = session.query(HELD_OR_RUNNING).bind(in_order(ids));
        Self::over(session, query).await
    }

    /// Locks the rows of these tasks, and before them those of the queues of tasks that have a concurrency key.
    pub(super) async fn of(
        session: &mut Session<'_>,
        ids: impl IntoIterator<Item = TaskId>,
    ) -> Result<Self, Fault> {
        let ids = in_order(ids);
        session.begin().await?;
        let query = |session: &Session<'_>| {
            let locked: Vec<String> = session.locked_queues.iter().cloned().collect();
            session.query(BY_ID).bind(ids.clone()).bind(locked)
        };
        let desk = Self::over(session, query(session)).await?;
        if !desk.lives.is_empty() {
            return Ok(desk);
        }
        let queues = keys::queues_of(session, ids.iter().copied().map(TaskId::from)).await?;
        if queues.is_empty() {
            return Ok(desk);
        }
        queue::lock(session, queues).await?;
        let desk = Self::over(session, query(session)).await?;
        if desk.lives.is_empty() {
            return Err(Fault::Again("a task with a concurrency key moved to another queue"));
        }
        Ok(desk)
    }

    /// Locks the rows of a statement.
    pub(super) async fn over(session: &mut Session<'_>, query: Statement) -> Result<Self, Fault> {
        session.begin().await?;
        let mut desk = Self::default();
        for row in session.all(query).await? {
            let life = Life::read(&row)?;
            desk.now = row.try_get::<Instant, _>(1)?.0;
            desk.lives.insert(life.id, life);
        }
        Ok(desk)
    }

    pub(super) fn ids(&self) -> Vec<TaskId> {
        self.lives.keys().copied().collect()
    }

    pub(super) fn life(&self, id: TaskId) -> Option<&Life> {
        self.lives.get(&id)
    }

    /// The row of a run, if it is still that run's.
    pub(super) fn running(&self, id: TaskId, fence: u64) -> Option<Life> {
        let is_its = |life: &&Life| life.state == State::Running && i64::try_from(fence) == Ok(life.fence);
        self.life(id).filter(is_its).cloned()
    }

    /// A row to be changed in what nothing counts.
    pub(super) fn change(&mut self, id: TaskId) -> Option<&mut Life> {
        let life = self.lives.get_mut(&id)?;
        life.is_changed = true;
        Some(life)
    }

    /// Moves a row to another state.
    pub(super) fn moved(&mut self, id: TaskId, state: State, attempt: i64) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        self.ledger.exit(&life.queue, life.state, life.attempt);
        self.ledger.enter(&life.queue, state, attempt);
        if let (State::Due | State::Running, Some(key)) = (life.state, &life.concurrency_key)
            && state != State::Running
        {
            self.freed.insert((life.queue.clone(), key.clone()));
        }
        let waited = life.state.is_pending() && life.attempt == 0;
        life.state = state;
        life.attempt = attempt;
        life.is_changed = true;
        // One that waited for its first attempt before has its run key still.
        if state.is_pending() && attempt == 0 && !waited {
            self.take_run_key(id);
        }
    }

    /// A task that comes to wait for its first attempt again can be replaced again, unless another add has taken its
    /// run key meanwhile: that one replaced it, and it loses the key.
    fn take_run_key(&mut self, id: TaskId) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let Some(key) = life.run_key.clone() else { return };
        let place = (key, life.name.clone());
        if life.run_key_holder.is_some() || *self.run_keys.entry(place).or_insert(id) != id {
            life.run_key = None;
        }
    }

    /// Lets a row wait for its next attempt.
    pub(super) fn wait(&mut self, id: TaskId, waits: Waits) {
        let state = State::waiting(waits.run_at, self.now);
        self.moved(id, state, waits.attempt);
        let Some(life) = self.change(id) else { return };
        life.run_at = waits.run_at;
        life.lost_runs = waits.lost_runs;
        life.error = waits.error;
        life.instance = None;
        life.cancel_requested = false;
    }

    /// Ends a row other than well.
    pub(super) fn end(&mut self, id: TaskId, ends: Ends) {
        let now = self.now;
        self.moved(id, ends.state, ends.attempt);
        let Some(life) = self.change(id) else { return };
        life.finished_at = Some(now);
        life.lost_runs = ends.lost_runs;
        life.error = Some(ends.error);
        life.instance = ends.outcome.and(life.instance);
        life.outcome = ends.outcome.map(|outcome| words::outcome_word(outcome).to_owned());
        life.cancel_requested = false;
    }

    /// Writes the attempt in a row down among the former ones.
    pub(super) fn record(&mut self, id: TaskId, at: i64, outcome: AttemptOutcome, error: Option<String>) {
        let Some(life) = self.lives.get(&id) else { return };
        self.past.push(Past {
            task: Uuid::from(id),
            number: life.attempt,
            instance: life.instance.unwrap_or_default(),
            started_at: life.started_at.unwrap_or(at),
            finished_at: at,
            outcome: words::outcome_word(outcome),
            error,
        });
    }

    /// Keeps what a run said.
    pub(super) fn say(&mut self, id: TaskId, progress: Option<&Progress>, lines: &[LogLine]) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        if let Some(progress) = progress {
            life.progress = Some(words::progress_json(progress));
            life.is_changed = true;
        }
        for line in lines {
            self.lines.push(Line { task: Uuid::from(id), n: life.log_lines, line: line.clone() });
            life.log_lines = life.log_lines.saturating_add(1);
            life.more_log_bytes = life.more_log_bytes.saturating_add(words::number(line.message.len()));
            life.is_changed = true;
        }
    }

    /// Writes everything down.
    pub(super) async fn write(self, session: &mut Session<'_>) -> Result<(), Fault> {
        let changed: Vec<Life> = self.lives.into_values().filter(|life| life.is_changed).collect();
        write_lives(session, &changed).await?;
        write_past(session, &self.past).await?;
        write_lines(session, &self.lines).await?;
        keys::let_go(session, &self.freed).await?;
        self.ledger.write(session).await
    }
}

/// Ids in the order in which everybody locks rows, each once.
fn in_order(ids: impl IntoIterator<Item = TaskId>) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = ids.into_iter().map(Uuid::from).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

impl Life {
    fn read(row: &PgRow) -> Result<Self, Fault> {
        let instant = |column: usize| row.try_get::<Option<Instant>, _>(column).map(|at| at.map(|at| at.0));
        let text = |column: usize| row.try_get::<Option<String>, _>(column).map(|text| text.map(give));
        let holder = |column: usize| row.try_get::<Option<Uuid>, _>(column).map(|id| id.map(TaskId::from));
        Ok(Self {
            id: TaskId::from(row.try_get::<Uuid, _>(0)?),
            state: State::from_number(row.try_get::<i16, _>(2)?.into()),
            queue: give(row.try_get(3)?),
            name: give(row.try_get(4)?),
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
            result: None,
            progress: None,
            forgets_progress: false,
            more_log_bytes: 0,
            is_changed: false,
        })
    }
}

async fn write_lives(session: &mut Session<'_>, lives: &[Life]) -> Result<(), Fault> {
    if lives.is_empty() {
        return Ok(());
    }
    let each = || lives.iter();
    let state = |life: &Life| i16::try_from(life.state.number()).unwrap_or(i16::MAX);
    let statement = session
        .query(WRITE)
        .bind(each().map(|life| Uuid::from(life.id)).collect::<Vec<_>>())
        .bind(each().map(state).collect::<Vec<_>>())
        .bind(each().map(|life| life.attempt).collect::<Vec<_>>())
        .bind(each().map(|life| life.max_attempts).collect::<Vec<_>>())
        .bind(each().map(|life| life.lost_runs).collect::<Vec<_>>())
        .bind(each().map(|life| life.cancel_requested).collect::<Vec<_>>())
        .bind(each().map(|life| life.log_lines).collect::<Vec<_>>())
        .bind(each().map(|life| life.more_log_bytes).collect::<Vec<_>>())
        .bind(each().map(|life| life.instance).collect::<Vec<_>>())
        .bind(each().map(|life| Instant(life.run_at)).collect::<Vec<_>>())
        .bind(each().map(|life| life.finished_at.map(Instant)).collect::<Vec<_>>())
        .bind(each().map(|life| life.outcome.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|life| life.error.as_deref().map(keep)).collect::<Vec<_>>())
        .bind(each().map(|life| life.run_key.as_deref().map(keep)).collect::<Vec<_>>())
        .bind(each().map(|life| life.result.as_deref().map(keep_json)).collect::<Vec<_>>())
        .bind(each().map(|life| life.progress.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|life| life.forgets_progress).collect::<Vec<_>>())
        .bind(each().map(|life| life.snoozes).collect::<Vec<_>>());
    session.execute(statement).await.map(drop)
}

async fn write_past(session: &mut Session<'_>, past: &[Past]) -> Result<(), Fault> {
    if past.is_empty() {
        return Ok(());
    }
    let each = || past.iter();
    let statement = session
        .query(WRITE_ATTEMPTS)
        .bind(each().map(|it| it.task).collect::<Vec<_>>())
        .bind(each().map(|it| it.number).collect::<Vec<_>>())
        .bind(each().map(|it| it.instance).collect::<Vec<_>>())
        .bind(each().map(|it| Instant(it.started_at)).collect::<Vec<_>>())
        .bind(each().map(|it| Instant(it.finished_at)).collect::<Vec<_>>())
        .bind(each().map(|it| it.outcome).collect::<Vec<_>>())
        .bind(each().map(|it| it.error.as_deref().map(keep)).collect::<Vec<_>>());
    session.execute(statement).await.map(drop)
}

async fn write_lines(session: &mut Session<'_>, lines: &[Line]) -> Result<(), Fault> {
    if lines.is_empty() {
        return Ok(());
    }
    let each = || lines.iter();
    let statement = session
        .query(WRITE_LINES)
        .bind(each().map(|it| it.task).collect::<Vec<_>>())
        .bind(each().map(|it| it.n).collect::<Vec<_>>())
        .bind(each().map(|it| i64::from(it.line.attempt)).collect::<Vec<_>>())
        .bind(each().map(|it| Instant(time::to_micros(it.line.at))).collect::<Vec<_>>())
        .bind(each().map(|it| it.line.level.as_str()).collect::<Vec<_>>())
        .bind(each().map(|it| keep(&it.line.message)).collect::<Vec<_>>());
    session.execute(statement).await.map(drop)
}
