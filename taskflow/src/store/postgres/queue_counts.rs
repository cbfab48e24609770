//! How many tasks of each status each queue has.
//!
//! A statement that moves many tasks at once counts them itself; [`CountDeltas`] is for transactions that move them one
//! by one. Either way the counts go to the rows of this connection's shard. Two concurrent transactions run in two
//! backend processes, and the number of its backend chooses a transaction's shard. So no transaction waits for
//! another's commit, except by chance in one of a thousand pairs.

use std::collections::BTreeMap;

use super::error::Fault;
use super::session::Session;
use super::sql::shard;
use super::value::escape_nul;
use crate::model::TaskStatus;
use crate::store::row_state::RowState;

/// The changes of one transaction to the queue counts. They are ordered by queue name, so that two transactions that
/// share a shard by chance do not deadlock.
#[derive(Clone, Debug, Default)]
pub(super) struct CountDeltas {
    queues: BTreeMap<String, Numbers>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Numbers {
    of_status: [i64; TaskStatus::ALL.len()],
    waiting_first: i64,
    later: i64,
    refused: i64,
}

const ADD: &str = concat!(
    "
INSERT INTO taskflow_counts AS c
    (shard, queue, pending, running, success, failed, interrupted, cancelled, rejected, waiting_first, later, refused)
SELECT ",
    shard!(),
    ", g.*
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
            $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[]) AS g
ON CONFLICT (shard, queue) DO UPDATE SET
    pending = c.pending + excluded.pending,
    running = c.running + excluded.running,
    success = c.success + excluded.success,
    failed = c.failed + excluded.failed,
    interrupted = c.interrupted + excluded.interrupted,
    cancelled = c.cancelled + excluded.cancelled,
    rejected = c.rejected + excluded.rejected,
    waiting_first = c.waiting_first + excluded.waiting_first,
    later = c.later + excluded.later,
    refused = c.refused + excluded.refused"
);

impl CountDeltas {
    /// A task with `attempt` attempts has entered `state`.
    pub(super) fn enter(&mut self, queue: &str, state: RowState, attempt: i64) {
        self.count(queue, state, attempt, 1);
    }

    /// A task with `attempt` attempts has left `state`.
    pub(super) fn exit(&mut self, queue: &str, state: RowState, attempt: i64) {
        self.count(queue, state, attempt, -1);
    }

    /// A queue has refused this many tasks.
    pub(super) fn refuse(&mut self, queue: &str, tasks: i64) {
        self.numbers(queue).refused += tasks;
    }

    fn count(&mut self, queue: &str, state: RowState, attempt: i64, one: i64) {
        let numbers = self.numbers(queue);
        numbers.of_status[state.status() as usize] += one;
        if attempt == 0 && state.is_pending() {
            numbers.waiting_first += one;
        }
        if state == RowState::Later {
            numbers.later += one;
        }
    }

    fn numbers(&mut self, queue: &str) -> &mut Numbers {
        if !self.queues.contains_key(queue) {
            self.queues.insert(queue.to_owned(), Numbers::default());
        }
        self.queues.get_mut(queue).expect("it was inserted")
    }

    /// Writes the changes, as the last statement before a commit.
    pub(super) async fn write(mut self, session: &mut Session<'_>) -> Result<(), Fault> {
        self.queues.retain(|_, numbers| *numbers != Numbers::default());
        if self.queues.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = self.queues.keys().map(|name| escape_nul(name)).collect();
        let mut statement = session.query(ADD).bind(names);
        for status in TaskStatus::ALL {
            let column: Vec<i64> = self.queues.values().map(|it| it.of_status[status as usize]).collect();
            statement = statement.bind(column);
        }
        let column = |number: fn(&Numbers) -> i64| self.queues.values().map(number).collect::<Vec<_>>();
        let statement = statement
            .bind(column(|numbers| numbers.waiting_first))
            .bind(column(|numbers| numbers.later))
            .bind(column(|numbers| numbers.refused));
        session.execute(statement).await.map(drop)
    }
}
