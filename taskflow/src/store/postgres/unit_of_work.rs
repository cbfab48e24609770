//! Changes rows one by one, in one transaction.
//!
//! Changes that one statement cannot make to many rows at once (retries, reports, cancels, recovery) are made here: the
//! rows are locked and read together, changed in memory as [the rules](crate::store::transition) decide, and written
//! together. It takes three to five statements, whatever the number of rows, and a few more for tasks with a concurrency
//! key.

use std::collections::{BTreeMap, HashMap};

use sqlx::Row;
use uuid::Uuid;

use super::concurrency_keys::{self, Freed};
use super::error::Fault;
use super::queue;
use super::queue_counts::CountDeltas;
use super::search_starts::DueAgain;
use super::session::{Session, Statement};
use super::task_row::{self, BY_ID, BY_ID_ALONE, TaskRow};
use super::value::{Instant, LONGEST, escape_nul};
use crate::model::{AttemptOutcome, LogLine, Progress, TaskId, TaskStatus, time};
use crate::store::codec;
use crate::store::row_state::RowState;
use crate::store::transition::{Change, Decision, EndedRun, ErrorChange, Stage, TaskState};

const WRITE_ATTEMPTS: &str = "
INSERT INTO taskflow_attempts (task, number, instance, started_at, finished_at, outcome, error)
SELECT g.task, g.number, g.instance, g.started_at, g.finished_at, g.outcome, g.error
FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[])
    WITH ORDINALITY AS g (task, number, instance, started_at, finished_at, outcome, error, n)
ORDER BY g.n";

/// A line with this number exists only if another program wrote it.
const WRITE_LINES: &str = "
INSERT INTO taskflow_logs (task, n, attempt, at, level, message)
SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::timestamptz[], $5::text[], $6::text[])
ON CONFLICT (task, n) DO UPDATE SET
    attempt = excluded.attempt, at = excluded.at, level = excluded.level, message = excluded.message";

/// A former attempt to be stored.
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

/// The rows that one call works on.
#[derive(Debug, Default)]
pub(super) struct UnitOfWork {
    pub(super) now: i64,
    rows: BTreeMap<TaskId, TaskRow>,
    /// Run keys that tasks in this unit of work have taken, by key and name.
    run_keys: HashMap<(String, String), TaskId>,
    counts: CountDeltas,
    freed: Freed,
    past: Vec<Past>,
    lines: Vec<Line>,
}

impl UnitOfWork {
    /// Locks the rows of these tasks. It must only be used for changes that leave running tasks running and at most
    /// end a hold.
    pub(super) async fn of_leased(
        session: &mut Session<'_>,
        ids: impl IntoIterator<Item = TaskId>,
    ) -> Result<Self, Fault> {
        session.begin().await?;
        let query = session.query(BY_ID_ALONE).bind(in_order(ids));
        Self::over(session, query).await
    }

    /// Locks the rows of these tasks, after those of the queues of tasks with a concurrency key.
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
        let work = Self::over(session, query(session)).await?;
        if !work.rows.is_empty() {
            return Ok(work);
        }
        let queues = concurrency_keys::queues_of(session, ids.iter().copied().map(TaskId::from)).await?;
        if queues.is_empty() {
            return Ok(work);
        }
        queue::lock(session, queues).await?;
        let work = Self::over(session, query(session)).await?;
        if work.rows.is_empty() {
            return Err(Fault::Again("a task with a concurrency key moved to another queue"));
        }
        Ok(work)
    }

    /// Locks the rows that a statement selects.
    pub(super) async fn over(session: &mut Session<'_>, query: Statement) -> Result<Self, Fault> {
        session.begin().await?;
        let mut work = Self::default();
        for columns in session.all(query).await? {
            let row = TaskRow::read(&columns)?;
            work.now = columns.try_get::<Instant, _>(1)?.0;
            work.rows.insert(row.id, row);
        }
        Ok(work)
    }

    pub(super) fn ids(&self) -> Vec<TaskId> {
        self.rows.keys().copied().collect()
    }

    pub(super) fn row(&self, id: TaskId) -> Option<&TaskRow> {
        self.rows.get(&id)
    }

    /// The row of a run, if it still belongs to that run.
    pub(super) fn running(&self, id: TaskId, fence: u64) -> Option<TaskRow> {
        let is_its = |row: &&TaskRow| row.state == RowState::Running && i64::try_from(fence) == Ok(row.fence);
        self.row(id).filter(is_its).cloned()
    }

    /// Decides about a task by a rule, and applies the decision.
    pub(super) fn decide<'r, A>(
        &mut self,
        id: TaskId,
        rule: impl FnOnce(Option<&TaskState>) -> Decision<'r, A>,
    ) -> A {
        let decision = rule(self.row(id).map(TaskRow::task).as_ref());
        if let Some(change) = decision.change {
            self.apply(id, &change);
        }
        decision.answer
    }

    /// Applies a change that the rules have decided.
    pub(super) fn apply(&mut self, id: TaskId, change: &Change<'_>) {
        let (next, now) = (&change.next, self.now);
        if change.reopens {
            self.record_last(id);
        }
        // The last attempt of an ended task stays in its row.
        let last = change.last_run();
        if let (Some(run), None) = (&change.ended_run, last) {
            self.record(id, now, run.outcome, run.error.map(str::to_owned));
        }
        if next.stage != Stage::Running {
            self.moved(id, RowState::of(next, now), next.attempt.into());
        }
        let Some(row) = self.rows.get_mut(&id) else { return };
        row.is_changed = true;
        row.cancel_requested = next.cancel_requested;
        if next.stage == Stage::Running {
            return;
        }
        if next.run_at != row.run_at {
            row.run_at = next.run_at.min(now.saturating_add(LONGEST));
        }
        if row.task().fence != next.fence {
            row.fence = row.fence.saturating_add(1);
        }
        row.max_attempts = next.max_attempts.into();
        row.lost_runs = i32::try_from(next.lost_runs).unwrap_or(i32::MAX);
        row.snoozes = i32::try_from(next.snoozes).unwrap_or(i32::MAX);
        row.forgets_expiry = next.expires_at != row.expires_at;
        row.expires_at = next.expires_at;
        row.finished_at = change.finished_at(now);
        row.instance = last.and(row.instance);
        // Success is already recorded by the state.
        let outcome = last.map(|run| run.outcome).filter(|outcome| *outcome != AttemptOutcome::Success);
        row.outcome = outcome.map(|outcome| outcome.as_str().to_owned());
        match &change.error {
            ErrorChange::Set(error) => row.error = Some(error.as_ref().to_owned()),
            ErrorChange::Clear => row.error = None,
            ErrorChange::Keep => {}
        }
        if let Some(result) = change.result {
            row.result = Some(result.into());
        }
        row.reopens |= change.reopens;
    }

    /// Moves a row to another state.
    fn moved(&mut self, id: TaskId, state: RowState, attempt: i64) {
        let Some(row) = self.rows.get_mut(&id) else { return };
        self.counts.exit(&row.queue, row.state, row.attempt);
        self.counts.enter(&row.queue, state, attempt);
        if let (RowState::Due | RowState::Running, Some(key)) = (row.state, &row.concurrency_key)
            && state != RowState::Running
        {
            self.freed.insert((row.queue.clone(), key.clone()));
        }
        let waited = row.state.is_pending() && row.attempt == 0;
        row.state = state;
        row.attempt = attempt;
        row.is_changed = true;
        // A task that was already waiting for its first attempt still has its run key.
        if state.is_pending() && attempt == 0 && !waited {
            self.take_run_key(id);
        }
    }

    /// A task that waits for its first attempt again can be replaced again, unless another add has taken its run key
    /// meanwhile. That add replaced it, so the task loses the key.
    fn take_run_key(&mut self, id: TaskId) {
        let Some(row) = self.rows.get_mut(&id) else { return };
        let Some(key) = row.run_key.clone() else { return };
        let place = (key, row.name.clone());
        if row.run_key_holder.is_some() || *self.run_keys.entry(place).or_insert(id) != id {
            row.run_key = None;
        }
    }

    /// Stores the attempt that a task ended with as a former attempt.
    fn record_last(&mut self, id: TaskId) {
        let Some(row) = self.row(id).filter(|row| row.instance.is_some()) else { return };
        let outcome = codec::outcome(row.outcome.as_deref().unwrap_or_default());
        let (at, error) = (row.finished_at.unwrap_or(self.now), row.error.clone());
        self.record(id, at, outcome, error);
    }

    /// Stores the attempt in a row as a former attempt.
    pub(super) fn record(&mut self, id: TaskId, at: i64, outcome: AttemptOutcome, error: Option<String>) {
        let Some(row) = self.rows.get(&id) else { return };
        self.past.push(Past {
            task: Uuid::from(id),
            number: row.attempt,
            instance: row.instance.unwrap_or_default(),
            started_at: row.started_at.unwrap_or(at),
            finished_at: at,
            outcome: outcome.as_str(),
            error,
        });
    }

    /// How many lines a task has logged.
    pub(super) fn log_lines(&self, id: TaskId) -> u32 {
        self.rows.get(&id).map_or(0, |row| codec::to_u32(row.log_lines.into()))
    }

    /// Notes the progress and the log lines of a run, to store them with the row.
    pub(super) fn append_report(&mut self, id: TaskId, progress: Option<&Progress>, lines: &[LogLine]) {
        let Some(row) = self.rows.get_mut(&id) else { return };
        if let Some(progress) = progress {
            row.progress = Some(codec::progress_json(progress));
            row.is_changed = true;
        }
        for line in lines {
            self.lines.push(Line { task: Uuid::from(id), n: row.log_lines, line: line.clone() });
            row.log_lines = row.log_lines.saturating_add(1);
            row.more_log_bytes = row.more_log_bytes.saturating_add(codec::to_i64(line.message.len()));
            row.is_changed = true;
        }
    }

    /// Fails a damaged task. If its run has not begun, the attempt is not counted.
    pub(super) fn fail_damaged(&mut self, id: TaskId, reason: &str, has_begun: bool) {
        let Some(row) = self.rows.get(&id) else { return };
        let has_begun = has_begun && row.state == RowState::Running;
        let uncounted = i64::from(row.state == RowState::Running && !has_begun);
        let error = format!("the stored task is damaged: {reason}");
        let attempt = row.attempt.saturating_sub(uncounted);
        let next = TaskState {
            stage: Stage::Ended(TaskStatus::Failed),
            attempt: codec::to_u32(attempt),
            cancel_requested: false,
            ..row.task()
        };
        let run = has_begun.then_some(EndedRun { outcome: AttemptOutcome::Failed, error: Some(&error) });
        let error = ErrorChange::Set(error.as_str().into());
        self.apply(id, &Change { next, ended_run: run, error, result: None, reopens: false });
    }

    /// Writes all changes.
    pub(super) async fn write(self, session: &mut Session<'_>) -> Result<(), Fault> {
        let changed: Vec<TaskRow> = self.rows.into_values().filter(|row| row.is_changed).collect();
        task_row::write(session, &changed).await?;
        let due = changed.iter().filter(|row| row.state == RowState::Due);
        session.due_again.extend(
            due.map(|row| DueAgain::new(row.id, escape_nul(&row.queue).into_owned(), row.priority, row.seq)),
        );
        write_past(session, &self.past).await?;
        write_lines(session, &self.lines).await?;
        concurrency_keys::unblock_next(session, &self.freed).await?;
        self.counts.write(session).await
    }
}

/// Ids in the order in which every transaction locks rows, each once.
fn in_order(ids: impl IntoIterator<Item = TaskId>) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = ids.into_iter().map(Uuid::from).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
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
        .bind(each().map(|it| it.error.as_deref().map(escape_nul)).collect::<Vec<_>>());
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
        .bind(each().map(|it| escape_nul(&it.line.message)).collect::<Vec<_>>());
    session.execute(statement).await.map(drop)
}
