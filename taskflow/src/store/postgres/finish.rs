//! Ends runs and holds, and stores the reports of runs that go on.

use std::collections::HashSet;

use uuid::Uuid;

use super::error::Fault;
use super::session::{Session, Statement};
use super::sql::shard;
use super::task_row::TaskRow;
use super::unit_of_work::UnitOfWork;
use super::value::escape_json;
use crate::model::{TaskId, TaskStatus};
use crate::store::hint_set::HintSet;
use crate::store::row_state::RowState;
use crate::store::{Finish, FinishKind, Finished, Release, Report, codec, transition};

use sqlx::Row;

/// Ends the given runs as successful, if their tasks still have the given fences. The statement names the ids twice:
/// the condition on the array makes every plan read just these rows, even a plan made while the table was small. If a
/// row is being renewed at this moment, the statement waits for it and checks it again. The `ctid` of the row has
/// changed by then, so the row must be found by its id.
macro_rules! succeed_each {
    ($ids:literal, $fences:literal, $results:literal, $condition:literal) => {
        concat!(
            "ended AS (
    UPDATE taskflow_tasks t
    SET state = 4, finished_at = now(), result = f.result, lease_until = NULL, error = NULL, lost_runs = 0,
        cancel_requested = false
    FROM unnest(",
            $ids,
            ", ",
            $fences,
            ", ",
            $results,
            ") AS f (id, fence, result)
    WHERE t.id = ANY(",
            $ids,
            ") AND t.id = f.id AND t.fence = f.fence AND t.state = 3 AND ",
            $condition,
            "
    RETURNING t.id, t.queue
)"
        )
    };
}
pub(super) use succeed_each;

/// Ends successful runs, as the rules in `transition` decide. Most finishes are of this kind. A turn costs the server
/// 0.35 ms, plus 16 µs for one task that ends and one that begins (`docs/performance.md`); a unit of work needs at
/// least three statements. The contract suite shows that both agree. If a run has a concurrency key, the statement answers
/// NULL and changes nothing, because the row of its queue must be locked first. The `ORDER BY` makes the planner use
/// the small index of such runs.
const SUCCEED: &str = concat!(
    "
WITH keyed AS MATERIALIZED (
    SELECT (
        SELECT queue FROM taskflow_tasks WHERE state = 3 AND concurrency_key IS NOT NULL
        ORDER BY queue, concurrency_key LIMIT 1
    ) IS NOT NULL AND EXISTS (
        SELECT 1 FROM taskflow_tasks WHERE id = ANY($1::uuid[]) AND state = 3 AND concurrency_key IS NOT NULL
    ) AS is_so
), ",
    succeed_each!("$1::uuid[]", "$2::bigint[]", "$3::text[]", "NOT (SELECT is_so FROM keyed)"),
    ", counted AS (
    INSERT INTO taskflow_counts AS c (shard, queue, running, success)
    SELECT ",
    shard!(),
    ", queue, -count(*), count(*) FROM ended GROUP BY queue ORDER BY queue
    ON CONFLICT (shard, queue) DO UPDATE SET
        running = c.running + excluded.running,
        success = c.success + excluded.success
)
SELECT id FROM ended UNION ALL SELECT NULL FROM keyed WHERE is_so"
);

pub(super) async fn finish(session: &mut Session<'_>, finishes: &[Finish]) -> Result<Vec<Finished>, Fault> {
    if finishes.is_empty() {
        return Ok(Vec::new());
    }
    if are_plain(finishes)
        && let Some(answers) = succeed(session, finishes).await?
    {
        return Ok(answers);
    }
    let mut work = UnitOfWork::of(session, finishes.iter().map(|finish| finish.run.id)).await?;
    let answers: Vec<Finished> = finishes.iter().map(|finish| finish_one(&mut work, finish)).collect();
    session.changes |= HintSet::ALL.when(any_ended(&answers));
    work.write(session).await?;
    Ok(answers)
}

/// Whether one statement can apply all finishes: each is the success of a different task, without log lines or
/// progress.
pub(super) fn are_plain(finishes: &[Finish]) -> bool {
    let mut seen = HashSet::with_capacity(finishes.len());
    finishes.iter().all(|finish| {
        matches!(finish.kind, FinishKind::Success { .. })
            && finish.lines.is_empty()
            && finish.progress.is_none()
            && seen.insert(finish.run.id)
    })
}

/// `None` if the task of a run has a concurrency key; then nothing was changed.
async fn succeed(session: &mut Session<'_>, finishes: &[Finish]) -> Result<Option<Vec<Finished>>, Fault> {
    let successes = Successes::of(finishes);
    let statement = successes.bind(session.query(SUCCEED));
    let applied: Option<Vec<Uuid>> =
        session.all(statement).await?.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let Some(applied) = applied else { return Ok(None) };
    let mut answers = successes.answers(applied);
    successes.recognise_repeated(session, &mut answers).await?;
    session.changes |= HintSet::ENDS.when(any_ended(&answers));
    Ok(Some(answers))
}

/// Whether any run has ended, now or by an earlier call whose answer was lost: that call may not have sent a hint.
pub(super) fn any_ended(answers: &[Finished]) -> bool {
    answers.iter().any(|answer| !matches!(answer, Finished::Stale))
}

/// Successful runs in the order of their ids, in which every transaction locks rows.
pub(super) struct Successes<'f>(Vec<(usize, &'f Finish)>);

impl<'f> Successes<'f> {
    pub(super) fn of(finishes: &'f [Finish]) -> Self {
        let mut ordered: Vec<_> = finishes.iter().enumerate().collect();
        ordered.sort_unstable_by_key(|(_, finish)| finish.run.id);
        Self(ordered)
    }

    /// Binds their ids, fences and results.
    pub(super) fn bind(&self, statement: Statement) -> Statement {
        let each = || self.0.iter().map(|(_, finish)| finish);
        let result = |finish: &&Finish| match &finish.kind {
            FinishKind::Success { result } => escape_json(result).into_owned(),
            _ => String::new(),
        };
        statement
            .bind(each().map(|finish| Uuid::from(finish.run.id)).collect::<Vec<_>>())
            .bind(each().map(|finish| fence(finish.run.fence)).collect::<Vec<_>>())
            .bind(each().map(result).collect::<Vec<_>>())
    }

    /// The answer to each finish in the given order, from the ids of those that were applied.
    pub(super) fn answers(&self, applied: Vec<Uuid>) -> Vec<Finished> {
        let mut answers = vec![Finished::Stale; self.0.len()];
        for id in applied {
            if let Ok(n) = self.0.binary_search_by_key(&TaskId::from(id), |(_, finish)| finish.run.id) {
                answers[self.0[n].0] = Finished::Applied(TaskStatus::Success);
            }
        }
        answers
    }
}

/// Finds those of the given runs that were finished before and have no later run of their task: the same answer as
/// [`transition::finish`], in SQL.
const REPEATED: &str = "
SELECT t.id, t.state FROM unnest($1::uuid[], $2::bigint[]) AS f (id, fence) JOIN taskflow_tasks t ON t.id = f.id
WHERE t.fence = f.fence AND t.started_at IS NOT NULL AND t.state NOT IN (2, 3)";

impl Successes<'_> {
    /// Distinguishes finishes that were applied before from those that come too late. Most often there are neither.
    pub(super) async fn recognise_repeated(
        &self,
        session: &mut Session<'_>,
        answers: &mut [Finished],
    ) -> Result<(), Fault> {
        let left: Vec<_> = self.0.iter().filter(|(n, _)| answers[*n] == Finished::Stale).collect();
        if left.is_empty() {
            return Ok(());
        }
        let query = session
            .query(REPEATED)
            .bind(left.iter().map(|(_, finish)| Uuid::from(finish.run.id)).collect::<Vec<_>>())
            .bind(left.iter().map(|(_, finish)| fence(finish.run.fence)).collect::<Vec<_>>());
        for row in session.all(query).await? {
            let id = TaskId::from(row.try_get::<Uuid, _>(0)?);
            let status = RowState::from_number(row.try_get::<i16, _>(1)?.into()).status();
            if let Ok(n) = self.0.binary_search_by_key(&id, |(_, finish)| finish.run.id) {
                answers[self.0[n].0] = Finished::Repeated(status);
            }
        }
        Ok(())
    }
}

/// A fence as a column value. A fence that no column can hold becomes -1, which matches no run.
pub(super) fn fence(fence: u64) -> i64 {
    i64::try_from(fence).unwrap_or(-1)
}

fn finish_one(work: &mut UnitOfWork, finish: &Finish) -> Finished {
    let id = finish.run.id;
    let task = work.row(id).map(TaskRow::task);
    let decision = transition::finish(task.as_ref(), finish.run.fence, &finish.kind, work.now);
    if let Some(change) = decision.change {
        work.append_report(id, finish.progress.as_ref(), finish.new_lines(work.log_lines(id)));
        work.apply(id, &change);
    }
    decision.answer
}

pub(super) async fn release(session: &mut Session<'_>, releases: &[Release]) -> Result<Vec<bool>, Fault> {
    let mut work = UnitOfWork::of_leased(session, releases.iter().map(|release| release.hold.id)).await?;
    let release_one = |release: &Release| {
        let Release { hold, outcome } = release;
        work.decide(hold.id, |task| transition::release(task, hold.fence, outcome))
    };
    let answers: Vec<bool> = releases.iter().map(release_one).collect();
    session.changes |= HintSet::ALL.when(answers.contains(&true));
    work.write(session).await?;
    Ok(answers)
}

pub(super) async fn report(session: &mut Session<'_>, reports: &[Report]) -> Result<Vec<bool>, Fault> {
    let mut work = UnitOfWork::of_leased(session, reports.iter().map(|report| report.run.id)).await?;
    let mut report_one = |report: &Report| {
        let is_alive = work.running(report.run.id, report.run.fence).is_some();
        if is_alive {
            let stored = work.log_lines(report.run.id);
            work.append_report(report.run.id, report.progress.as_ref(), report.new_lines(stored));
        }
        is_alive
    };
    let answers = reports.iter().map(&mut report_one).collect();
    work.write(session).await?;
    Ok(answers)
}

const OF_CLAIMS: &str = "
SELECT id, fence FROM taskflow_tasks
WHERE (state > 0) IS TRUE AND state = 3 AND instance = $1 AND claim_id = ANY($2::bigint[])";

/// Gives back the tasks of claims whose answers were lost. No process will ever run them.
pub(super) async fn give_back_claims(
    session: &mut Session<'_>,
    instance: Uuid,
    claims: Vec<i64>,
) -> Result<(), Fault> {
    let query = session.query(OF_CLAIMS).bind(instance).bind(claims);
    let mut taken = Vec::new();
    for row in session.all(query).await? {
        let id = TaskId::from(row.try_get::<Uuid, _>(0)?);
        let run = crate::store::RunRef::new(id, codec::to_u64(row.try_get(1)?));
        let kind = FinishKind::GiveBack { delay: std::time::Duration::ZERO, outcome: None };
        taken.push(Finish::new(run, kind));
    }
    finish(session, &taken).await.map(drop)
}
