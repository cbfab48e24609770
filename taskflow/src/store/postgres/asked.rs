//! The parameters that the statements of a claim take, and the result that they return.

use sqlx::Row;
use uuid::Uuid;

use super::claim_sql::promote;
use super::damage::Damage;
use super::error::Fault;
use super::session::{Session, Statement};
use super::sql::moment;
use super::value::{escape_nul, length, unescape_nul};
use crate::store::{Claim, ClaimQueue, Claims, Finished, SharedLimits, codec};

/// A claim in the form that is bound to a statement.
pub(super) struct Asked {
    pub(super) queues: Vec<AskedQueue>,
    pub(super) limit: i64,
    /// How many free slots the instance has for the claimed tasks. It prefetches the others.
    pub(super) slots: i64,
    /// Identifies the leases of this claim, in case its answer is lost.
    pub(super) claim_id: i64,
}

/// The answers to the finishes, the claimed tasks, and the leased tasks that cannot be run.
pub(super) type Taken = (Vec<Finished>, Claims, Vec<Damage>);

/// A queue of a claim.
pub(super) struct AskedQueue {
    /// In its stored form.
    pub(super) name: String,
    /// How many more tasks the claim may take from this queue.
    pub(super) free: i64,
    pub(super) prefetch: bool,
    pub(super) limits: SharedLimits,
}

/// The queues that have a due task, a blocked task, or one of the next 1,000 tasks to come due; and whether any task
/// has come due but is not marked as due. If there are many queues, most are empty. So the statement does not look into
/// each of them: it steps along an index from one queue with a task to the next.
const WAITING: &str = concat!(
    "
WITH RECURSIVE due AS (
    (SELECT t.queue FROM taskflow_tasks t WHERE t.state = 0 ORDER BY t.queue, t.priority DESC, t.seq LIMIT 1)
    UNION ALL
    SELECT t.queue FROM due d CROSS JOIN LATERAL (
        SELECT t.queue FROM taskflow_tasks t WHERE t.state = 0 AND t.queue > d.queue
        ORDER BY t.queue, t.priority DESC, t.seq LIMIT 1
    ) t
), blocked AS (
    (SELECT t.queue FROM taskflow_tasks t WHERE t.state = -1 AND t.concurrency_key IS NOT NULL
     ORDER BY t.queue, t.concurrency_key, t.name, t.priority DESC, t.seq LIMIT 1)
    UNION ALL
    SELECT t.queue FROM blocked b CROSS JOIN LATERAL (
        SELECT t.queue FROM taskflow_tasks t
        WHERE t.state = -1 AND t.concurrency_key IS NOT NULL AND t.queue > b.queue
        ORDER BY t.queue, t.concurrency_key, t.name, t.priority DESC, t.seq LIMIT 1
    ) t
), later AS (
    SELECT t.queue FROM taskflow_tasks t WHERE (state > 0) IS TRUE AND state = 1 AND ",
    moment!(),
    " < 'infinity'
    ORDER BY ",
    moment!(),
    " LIMIT 1000
), come_due AS MATERIALIZED (
    SELECT EXISTS (SELECT 1 FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state = 1 AND ",
    moment!(),
    " <= now()) AS any
)
SELECT queue, come_due.any FROM (
    SELECT queue FROM due UNION SELECT queue FROM blocked UNION SELECT queue FROM later
) waiting CROSS JOIN come_due"
);

/// The most queues that a claim sends by name without asking which of them have tasks. To ask costs a round trip, but less
/// than sending thousands of names.
const FEW: usize = 32;

/// The most tasks of one claim.
const MOST: i64 = 1 << 30;

impl Asked {
    pub(super) async fn of(session: &mut Session<'_>, claim: &Claim, claim_id: i64) -> Result<Self, Fault> {
        let limit = codec::to_i64(claim.limit).min(MOST);
        let slots = codec::to_i64(claim.slots());
        let queues: Vec<ClaimQueue> = match claim.queues.len() {
            _ if limit == 0 => Vec::new(),
            ..=FEW => claim.queues.iter().collect(),
            _ => waiting(session, claim).await?,
        };
        let queues = queues.into_iter().filter(|queue| queue.limit > 0);
        let mut queues: Vec<AskedQueue> = queues
            .map(|queue| AskedQueue {
                name: escape_nul(&queue.name).into_owned(),
                free: codec::to_i64(queue.limit).min(limit),
                prefetch: queue.prefetch,
                limits: queue.shared,
            })
            .collect();
        queues.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { queues, limit, slots, claim_id })
    }

    pub(super) fn are_limited(&self) -> bool {
        self.queues.iter().any(|queue| queue.limits.any())
    }

    pub(super) fn bind(&self, statement: Statement, claim: &Claim, checks_first: bool) -> Statement {
        statement
            .bind(self.queues.iter().map(|queue| queue.name.clone()).collect::<Vec<_>>())
            .bind(self.queues.iter().map(|queue| queue.free).collect::<Vec<_>>())
            .bind(claim.names.iter().map(|name| escape_nul(name)).collect::<Vec<_>>())
            .bind(self.limit)
            .bind(Uuid::from(claim.instance))
            .bind(self.claim_id)
            .bind(length(claim.lease))
            .bind(checks_first)
            .bind(self.slots)
            .bind(self.queues.iter().map(|queue| queue.prefetch).collect::<Vec<_>>())
    }
}

/// Those queues of a claim that [`WAITING`] finds. If tasks have come due, marks them first.
async fn waiting(session: &mut Session<'_>, claim: &Claim) -> Result<Vec<ClaimQueue>, Fault> {
    let mut rows = session.all(session.query(WAITING)).await?;
    if rows.first().map(|row| row.try_get(1)).transpose()?.unwrap_or(false) {
        session.begin().await?;
        promote(session).await?;
        rows = session.all(session.query(WAITING)).await?;
    }
    let mut queues = Vec::new();
    for row in rows {
        queues.extend(claim.queues.get(&unescape_nul(row.try_get(0)?)));
    }
    Ok(queues)
}
