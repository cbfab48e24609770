//! What becomes of runs and holds whose lease has ended, and of tasks that have expired.

use std::sync::Arc;

use sqlx::Row;

use super::damage::{self, is_damaged};
use super::desk::{Desk, Ends, Waits};
use super::error::Fault;
use super::finish::let_go;
use super::life::{EXPIRED, LEASE_ENDED, Life};
use super::queue;
use super::session::Session;
use super::sql::moment;
use super::value::length;
use crate::model::{AttemptOutcome, TaskId, TaskStatus};
use crate::store::state::State;
use crate::store::{LostRun, Next, Recovered, words};

/// The most lost runs and holds that one call moves on.
const AT_ONCE: i64 = 256;

/// The error of an attempt whose process died.
const WORKER_LOST: &str = "worker lost";

/// How many there are, the queues of those that have a concurrency key, and whether there are damaged rows. Most calls find
/// nothing, and end here.
const LOOK: &str = concat!(
    "
SELECT count(*), array_agg(DISTINCT queue) FILTER (WHERE concurrency_key IS NOT NULL), ",
    is_damaged!(),
    "
FROM (
    (SELECT queue, concurrency_key FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state IN (2, 3) AND ",
    moment!(),
    " <= now() LIMIT $1)
    UNION ALL
    (SELECT queue, concurrency_key FROM taskflow_tasks
     WHERE expires_at <= now() AND state < 2 ORDER BY expires_at LIMIT $1)
) AS found"
);

pub(super) async fn recover(session: &mut Session<'_>) -> Result<Vec<Recovered>, Fault> {
    let found = session.one(session.query(LOOK).bind(AT_ONCE)).await?;
    if found.try_get(2)? {
        damage::seek(session).await?;
    }
    if found.try_get::<i64, _>(0)? == 0 {
        return Ok(Vec::new());
    }
    session.begin().await?;
    let queues: Vec<String> = found.try_get::<Option<_>, _>(1)?.unwrap_or_default();
    queue::lock(session, queues.iter().cloned().collect()).await?;
    let mut recovered = Vec::new();
    for (rows, move_on) in [(LEASE_ENDED, move_on as fn(&mut Desk, TaskId) -> _), (EXPIRED, expire)] {
        let most = AT_ONCE - words::number(recovered.len());
        let query = session.query(rows).bind(most).bind(queues.clone());
        let mut desk = Desk::over(session, query).await?;
        recovered.extend(desk.ids().into_iter().filter_map(|id| move_on(&mut desk, id)));
        desk.write(session).await?;
    }
    session.is_news |= !recovered.is_empty();
    Ok(recovered)
}

fn expire(desk: &mut Desk, id: TaskId) -> Option<Recovered> {
    let Life { attempt, lost_runs, ref name, .. } = *desk.life(id)?;
    let name: Arc<str> = Arc::from(name.as_str());
    let (state, error) = (State::Cancelled, Recovered::EXPIRED.to_owned());
    desk.end(id, Ends { state, attempt, lost_runs, error, outcome: None });
    Some(Recovered::from_expiry(id, name))
}

fn move_on(desk: &mut Desk, id: TaskId) -> Option<Recovered> {
    let life = desk.life(id)?.clone();
    let name: Arc<str> = Arc::from(life.name.as_str());
    if life.state != State::Running {
        let_go(desk, &life);
        return Some(Recovered::from_hold(id, name));
    }
    let policy = match words::readable_policy(life.policy.as_deref()) {
        Ok(policy) => policy,
        Err(reason) => {
            desk.record(id, desk.now, AttemptOutcome::Lost, Some(WORKER_LOST.to_owned()));
            desk.fail_damaged(id, &reason, true);
            let error = desk.life(id)?.error.clone();
            return Some(Recovered::new(id, name, TaskStatus::Failed, error));
        }
    };
    let (attempt, max_attempts) = (words::small(life.attempt), words::small(life.max_attempts));
    let lost_before = words::small(life.lost_runs.into());
    let run = LostRun::new(&policy, attempt, max_attempts, lost_before, life.cancel_requested);
    desk.record(id, desk.now, AttemptOutcome::Lost, Some(WORKER_LOST.to_owned()));
    let lost_runs = life.lost_runs.saturating_add(1);
    if let Some(life) = desk.change(id) {
        // So that a late finish is not taken for a repeated one.
        life.fence = life.fence.saturating_add(1);
    }
    let Life { attempt, .. } = life;
    match run.next(fastrand::f64()) {
        Next::Pending { delay, counted } => {
            let attempt = if counted { attempt } else { (attempt - 1).max(0) };
            let run_at = desk.now.saturating_add(length(delay));
            desk.wait(id, Waits { attempt, run_at, lost_runs, error: Some(WORKER_LOST.to_owned()) });
            Some(Recovered::new(id, name, TaskStatus::Pending, None))
        }
        Next::Ended { status, error } => {
            let state = State::ended(status);
            desk.end(id, Ends { state, attempt, lost_runs, error: error.clone(), outcome: None });
            Some(Recovered::new(id, name, state.status(), Some(error)))
        }
    }
}
