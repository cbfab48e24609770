//! Where rows are worked on one by one.
//!
//! What a statement cannot do to many rows at once (retries, reports, cancels, recovery) is done here: the rows are
//! locked and read together, changed in memory as [the rules](crate::store::transition) decide, and written together. Three to five
//! statements, whatever the number of rows.

use std::collections::{BTreeMap, HashMap};

use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::keys::{self, Freed};
use super::ledger::Ledger;
use super::life::{self, BY_ID, BY_ID_ALONE, Life};
use super::queue;
use super::session::{Session, Statement};
use super::value::{Instant, LONGEST, keep};
use crate::model::{AttemptOutcome, LogLine, Progress, TaskId, TaskStatus, time};
use crate::store::state::State;
use crate::store::transition::{Change, Decision, EndedRun, ErrorChange, Stage, TaskState};
use crate::store::words;

const WRITE_ATTEMPTS: &str = "
INSERT INTO taskflow_attempts (task, number, instance, started_at, finished_at, outcome, error)
SELECT g.task, g.number, g.instance, g.started_at, g.finished_at, g.outcome, g.error
FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[])
    WITH ORDINALITY AS g (task, number, instance, started_at, finished_at, outcome, error, n)
ORDER BY g.n";

/// A line that is there already was put there by other hands.
const WRITE_LINES: &str = "
INSERT INTO taskflow_logs (task, n, attempt, at, level, message)
SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::timestamptz[], $5::text[], $6::text[])
ON CONFLICT (task, n) DO UPDATE SET
    attempt = excluded.attempt, at = excluded.at, level = excluded.level, message = excluded.message";

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
    /// Locks the rows of these tasks. Those that run stay so, and those that are held may end their hold: not more.
    pub(super) async fn of_leased(
        session: &mut Session<'_>,
        ids: impl IntoIterator<Item = TaskId>,
    ) -> Result<Self, Fault> {
        session.begin().await?;
        let query = session.query(BY_ID_ALONE).bind(in_order(ids));
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
        for columns in session.all(query).await? {
            let life = Life::read(&columns)?;
            desk.now = columns.try_get::<Instant, _>(1)?.0;
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

    /// Decides about a task by a rule, and applies that.
    pub(super) fn decide<'r, A>(
        &mut self,
        id: TaskId,
        rule: impl FnOnce(Option<&TaskState>) -> Decision<'r, A>,
    ) -> A {
        let decision = rule(self.life(id).map(Life::task).as_ref());
        if let Some(change) = decision.change {
            self.apply(id, &change);
        }
        decision.answer
    }

    /// Applies what the rules have decided.
    pub(super) fn apply(&mut self, id: TaskId, change: &Change<'_>) {
        let (next, now) = (&change.next, self.now);
        if change.reopens {
            self.record_last(id);
        }
        // The attempt that a task ends with stays in its row.
        let last = change.last_run();
        if let (Some(run), None) = (&change.ended_run, last) {
            self.record(id, now, run.outcome, run.error.map(str::to_owned));
        }
        if next.stage != Stage::Running {
            self.moved(id, State::of(next, now), next.attempt.into());
        }
        let Some(life) = self.lives.get_mut(&id) else { return };
        life.is_changed = true;
        life.cancel_requested = next.cancel_requested;
        if next.stage == Stage::Running {
            return;
        }
        if next.run_at != life.run_at {
            life.run_at = next.run_at.min(now.saturating_add(LONGEST));
        }
        if life.task().fence != next.fence {
            life.fence = life.fence.saturating_add(1);
        }
        life.max_attempts = next.max_attempts.into();
        life.lost_runs = i32::try_from(next.lost_runs).unwrap_or(i32::MAX);
        life.snoozes = i32::try_from(next.snoozes).unwrap_or(i32::MAX);
        life.forgets_expiry = next.expires_at != life.expires_at;
        life.expires_at = next.expires_at;
        life.finished_at = change.finished_at(now);
        life.instance = last.and(life.instance);
        // That it ended well, its state says.
        let outcome = last.map(|run| run.outcome).filter(|outcome| *outcome != AttemptOutcome::Success);
        life.outcome = outcome.map(|outcome| words::outcome_word(outcome).to_owned());
        match &change.error {
            ErrorChange::Set(error) => life.error = Some(error.as_ref().to_owned()),
            ErrorChange::Clear => life.error = None,
            ErrorChange::Keep => {}
        }
        if let Some(result) = change.result {
            life.result = Some(result.into());
        }
        life.reopens |= change.reopens;
    }

    /// Moves a row to another state.
    fn moved(&mut self, id: TaskId, state: State, attempt: i64) {
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

    /// Writes the attempt that a task ended with down among the former ones.
    fn record_last(&mut self, id: TaskId) {
        let Some(life) = self.life(id).filter(|life| life.instance.is_some()) else { return };
        let outcome = words::outcome(life.outcome.as_deref().unwrap_or_default());
        let (at, error) = (life.finished_at.unwrap_or(self.now), life.error.clone());
        self.record(id, at, outcome, error);
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

    /// Ends a row that is damaged. The attempt of a run that has not begun is not counted.
    pub(super) fn fail_damaged(&mut self, id: TaskId, reason: &str, has_begun: bool) {
        let Some(life) = self.lives.get(&id) else { return };
        let has_begun = has_begun && life.state == State::Running;
        let uncounted = i64::from(life.state == State::Running && !has_begun);
        let error = format!("the stored task is damaged: {reason}");
        let attempt = life.attempt.saturating_sub(uncounted);
        let next = TaskState {
            stage: Stage::Ended(TaskStatus::Failed),
            attempt: words::small(attempt),
            cancel_requested: false,
            ..life.task()
        };
        let run = has_begun.then_some(EndedRun { outcome: AttemptOutcome::Failed, error: Some(&error) });
        let error = ErrorChange::Set(error.as_str().into());
        self.apply(id, &Change { next, ended_run: run, error, result: None, reopens: false });
    }

    /// Writes everything down.
    pub(super) async fn write(self, session: &mut Session<'_>) -> Result<(), Fault> {
        let changed: Vec<Life> = self.lives.into_values().filter(|life| life.is_changed).collect();
        life::write(session, &changed).await?;
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
