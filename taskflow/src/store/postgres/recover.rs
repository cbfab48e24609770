//! Recovers runs and holds whose lease has ended, and cancels tasks that have expired.

use std::sync::Arc;
use std::time::Instant;

use sqlx::Row;

use super::damage::{self, is_damaged};
use super::error::Fault;
use super::queue;
use super::session::Session;
use super::sql::moment;
use super::task_row::{EXPIRED, LEASE_ENDED};
use super::unit_of_work::UnitOfWork;
use crate::model::{AttemptOutcome, RetryPolicy, TaskId, TaskStatus};
use crate::store::hint_set::HintSet;
use crate::store::row_state::RowState;
use crate::store::{Recovered, codec, transition};

/// The maximum number of tasks that one call recovers: lost runs, lost holds and expired tasks together.
const AT_ONCE: i64 = 256;

/// Counts the tasks to recover (their lease has ended, or they have expired). Answers also the queues of those with a
/// concurrency key, and whether there are damaged rows. Most calls find nothing and end here.
const LOOK: &str = concat!(
    "
SELECT count(*), array_agg(DISTINCT queue) FILTER (WHERE concurrency_key IS NOT NULL), ",
    is_damaged!(),
    ", now()
FROM (
    (SELECT queue, concurrency_key FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state IN (2, 3) AND ",
    moment!(),
    " <= now() AND ",
    moment!(),
    " >= coalesce($2::timestamptz, '-infinity') LIMIT $1)
    UNION ALL
    (SELECT queue, concurrency_key FROM taskflow_tasks
     WHERE expires_at <= now() AND state < 2 ORDER BY expires_at LIMIT $1)
) AS found"
);

pub(super) async fn recover(session: &mut Session<'_>) -> Result<Vec<Recovered>, Fault> {
    let (start, began) = (&session.starts.recovery, Instant::now());
    let from = start.from(began);
    let found = session.one(session.query(LOOK).bind(AT_ONCE).bind(from)).await?;
    if found.try_get(2)? {
        damage::seek(session).await?;
    }
    if found.try_get::<i64, _>(0)? == 0 {
        start.found_none(found.try_get(3)?, from.is_none().then(|| began.elapsed()));
        return Ok(Vec::new());
    }
    session.begin().await?;
    let queues: Vec<String> = found.try_get::<Option<_>, _>(1)?.unwrap_or_default();
    queue::lock(session, queues.iter().cloned().collect()).await?;
    let mut recovered = Vec::new();
    for rows in [LEASE_ENDED, EXPIRED] {
        let most = AT_ONCE - codec::to_i64(recovered.len());
        let query = session.query(rows).bind(most).bind(queues.clone());
        let query = if rows == LEASE_ENDED { query.bind(from) } else { query };
        let mut work = UnitOfWork::over(session, query).await?;
        recovered.extend(work.ids().into_iter().filter_map(|id| move_on(&mut work, id)));
        work.write(session).await?;
    }
    session.changes |= HintSet::ALL.when(!recovered.is_empty());
    Ok(recovered)
}

fn move_on(work: &mut UnitOfWork, id: TaskId) -> Option<Recovered> {
    let row = work.row(id)?;
    let (task, name) = (row.task(), Arc::from(row.name.as_str()));
    let policy = match codec::readable_policy(row.policy.as_deref()) {
        Ok(policy) => policy,
        // Only a lost run needs the policy: a held or waiting task is moved on without it.
        Err(_) if row.state != RowState::Running => RetryPolicy::DEFAULT,
        Err(reason) => {
            work.record(id, work.now, AttemptOutcome::Lost, Some(transition::WORKER_LOST.to_owned()));
            work.fail_damaged(id, &reason, true);
            let error = work.row(id)?.error.clone();
            return Some(Recovered::new(id, name, TaskStatus::Failed, error));
        }
    };
    let change = transition::recover(&task, &policy, fastrand::f64(), work.now)?;
    work.apply(id, &change);
    Some(change.recovered(&task, id, name))
}
