//! What becomes of runs and holds whose lease has ended.

use std::sync::Arc;

use super::desk::{Desk, Ends, LEASE_ENDED, Life, Waits};
use super::error::Fault;
use super::finish::let_go;
use super::session::Session;
use super::value::length;
use crate::model::{AttemptOutcome, TaskId, TaskStatus};
use crate::store::state::State;
use crate::store::{LostRun, Next, Recovered, words};

/// The most lost runs and holds that one call moves on.
const AT_ONCE: i64 = 256;

/// The error of an attempt whose process died.
const WORKER_LOST: &str = "worker lost";

/// Most calls find nothing, and end here.
const LOOK: &str = "SELECT 1 FROM taskflow_tasks WHERE lease_until <= now() LIMIT 1";

pub(super) async fn recover(session: &mut Session<'_>) -> Result<Vec<Recovered>, Fault> {
    if session.optional(session.query(LOOK)).await?.is_none() {
        return Ok(Vec::new());
    }
    let query = session.query(LEASE_ENDED).bind(AT_ONCE);
    let mut desk = Desk::over(session, query).await?;
    let recovered: Vec<Recovered> = desk.ids().into_iter().filter_map(|id| move_on(&mut desk, id)).collect();
    session.is_news |= !recovered.is_empty();
    desk.write(session).await?;
    Ok(recovered)
}

fn move_on(desk: &mut Desk, id: TaskId) -> Option<Recovered> {
    let life = desk.life(id)?.clone();
    let name: Arc<str> = Arc::from(life.name.as_str());
    if life.state != State::Running {
        let_go(desk, &life);
        return Some(Recovered::from_hold(id, name));
    }
    let policy = words::policy(life.policy.as_deref());
    let (attempt, max_attempts) = (words::small(life.attempt), words::small(life.max_attempts));
    let lost_before = words::small(life.lost_runs.into());
    let run = LostRun::new(&policy, attempt, max_attempts, lost_before, life.cancel_requested);
    desk.record(id, desk.now, AttemptOutcome::Lost, Some(WORKER_LOST.to_owned()));
    let lost_runs = life.lost_runs.saturating_add(1);
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
