//! Concurrency keys: the number of running tasks of each key, and the tasks blocked by their key.
//!
//! When a claim meets a due task whose key is busy, it *blocks* the task. From then on the task slows down no claim,
//! however many blocked tasks there are. When a task of that queue and key stops running or leaves the due state, the
//! first blocked task of each name becomes due again. It is one of each name, because perhaps no instance knows the
//! name of the first. The next claim finds out whether it may run. So while any task is blocked, there is always
//! another one of its key that runs or is due. No other transaction can write to the file meanwhile, so no run can end
//! between the moment a claim reads a key and the moment it blocks a task.
//!
//! When the limit of a queue changes, all tasks that were blocked under the old limit become due again, some of them
//! with each claim. `key_round` of the queue counts how often the limit has changed.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::queue_counts::{KeyLimit, QueueNumber};
use super::readable;
use super::row;
use super::row_state::RowState;
use super::transaction::Transaction;

/// The maximum number of tasks that one claim blocks.
pub(super) const BLOCKED_AT_ONCE: usize = 1000;

/// The maximum number of tasks that one claim makes due again after a limit has changed. It is smaller than
/// [`BLOCKED_AT_ONCE`], so that claims that disagree about the limit still make progress.
const BACK_AT_ONCE: i64 = 500;

const KEY: &str = "SELECT concurrency_key FROM taskflow_tasks WHERE seq = ?1";

const RUNNING: &str = "SELECT running FROM taskflow_running_keys WHERE queue = ?1 AND key = ?2";

const ONE_MORE: &str = "
INSERT INTO taskflow_running_keys (queue, key, running) VALUES (?1, ?2, 1)
ON CONFLICT (queue, key) DO UPDATE SET running = running + 1";

const ONE_LESS: &str = "UPDATE taskflow_running_keys SET running = running - 1 WHERE queue = ?1 AND key = ?2";

const NONE_RUNS: &str = "DELETE FROM taskflow_running_keys WHERE queue = ?1 AND key = ?2 AND running <= 0";

const BLOCK: &str = "UPDATE taskflow_tasks SET state = -1 WHERE seq IN (SELECT value FROM json_each(?1))";

const RECORD_BLOCKED: &str = "
INSERT OR REPLACE INTO taskflow_blocked (task, queue, key, name, priority, round)
SELECT seq, queue, concurrency_key, name, priority, ?2
FROM taskflow_tasks WHERE seq IN (SELECT value FROM json_each(?1))";

/// The first blocked task of the first name from `?3` on.
const NEXT: &str = "
SELECT task, name FROM taskflow_blocked INDEXED BY taskflow_blocked_next
WHERE queue = ?1 AND key = ?2 AND name >= ?3 ORDER BY name, priority DESC, task LIMIT 1";

const OF_EARLIER_ROUNDS: &str = "
SELECT task FROM taskflow_blocked INDEXED BY taskflow_blocked_round
WHERE queue = ?1 AND round < ?2 ORDER BY round LIMIT ?3";

const DUE_AGAIN: &str = "UPDATE taskflow_tasks SET state = 0 WHERE seq = ?1 AND state = -1";

const UNBLOCK: &str = "DELETE FROM taskflow_blocked WHERE task = ?1";

const LIMIT: &str = "
INSERT INTO taskflow_queues (name, key_limit, key_round) VALUES (?1, ?2, 1)
ON CONFLICT (name) DO UPDATE SET key_limit = excluded.key_limit, key_round = key_round + 1";

impl Transaction<'_, '_> {
    /// The concurrency key of a row.
    pub(super) fn concurrency_key(&self, seq: i64) -> rusqlite::Result<Option<String>> {
        Ok(self
            .sql
            .get(KEY)?
            .query_row([seq], |row| Ok(row.get(0).unwrap_or_default()))
            .optional()?
            .flatten())
    }

    /// The number of running tasks of a key.
    pub(super) fn running_of_key(&self, queue: &str, key: &str) -> rusqlite::Result<i64> {
        let running = self.sql.get(RUNNING)?.query_row([queue, key], |row| row.get(0)).optional()?;
        Ok(running.unwrap_or(0))
    }

    /// Counts a task of a key that has begun to run.
    pub(super) fn key_runs(&self, queue: &str, key: &str) -> rusqlite::Result<()> {
        self.sql.execute(ONE_MORE, [queue, key]).map(drop)
    }

    /// Call this after a task of a key has left the state `by`: it has stopped running, or is no longer due. Unblocks the next
    /// task of the key, one of each name.
    pub(super) fn unblock_after(
        &mut self,
        queue: QueueNumber,
        key: &str,
        by: RowState,
    ) -> rusqlite::Result<()> {
        let name = Arc::clone(self.counts.name(queue));
        let name = &*name;
        if by == RowState::Running {
            self.sql.execute(ONE_LESS, [name, key])?;
            self.sql.execute(NONE_RUNS, [name, key])?;
        }
        if self.counts.blocked(queue, self.sql)? == 0 {
            return Ok(());
        }
        let mut from = String::new();
        loop {
            let next = self.sql.get(NEXT)?.query_row(params![name, key, from], |row| {
                Ok((row.get::<_, i64>(0)?, readable::text(row.get_ref(1)?).unwrap_or_default()))
            });
            let Some((seq, of_name)) = next.optional()? else { return Ok(()) };
            self.due_again(queue, seq)?;
            // Continue with the first name after this one.
            from = of_name + "\0";
        }
    }

    /// Blocks due tasks of a queue.
    pub(super) fn block(
        &mut self,
        queue: QueueNumber,
        seqs: &[i64],
        limit: KeyLimit,
    ) -> rusqlite::Result<()> {
        if seqs.is_empty() {
            return Ok(());
        }
        let list = row::json_list(seqs.iter().copied());
        self.sql.execute(RECORD_BLOCKED, params![list, limit.round])?;
        self.sql.execute(BLOCK, [list])?;
        for _ in seqs {
            // Attempt 0 for both, because blocking does not change whether a task waits for its first attempt.
            self.counts.exit(queue, RowState::Due, 0);
            self.counts.enter(queue, RowState::Blocked, 0);
        }
        Ok(())
    }

    /// Removes a row from the blocked ones, if it is there.
    pub(super) fn unblock(&self, seq: i64) -> rusqlite::Result<()> {
        self.sql.execute(UNBLOCK, [seq]).map(drop)
    }

    /// Sets how many tasks of one key may run. Answers the limit with its round, and whether all tasks that were
    /// blocked under another limit are due again.
    pub(super) fn limit_keys(
        &mut self,
        queue: QueueNumber,
        most: Option<i64>,
    ) -> rusqlite::Result<(KeyLimit, bool)> {
        let mut limit = self.counts.key_limit(queue, self.sql)?;
        if limit.most != most {
            self.sql.execute(LIMIT, params![self.counts.name(queue), most])?;
            self.counts.reread(queue);
            limit = self.counts.key_limit(queue, self.sql)?;
        }
        if self.counts.blocked(queue, self.sql)? == 0 {
            return Ok((limit, true));
        }
        let earlier: Vec<i64> = {
            let mut earlier = self.sql.get(OF_EARLIER_ROUNDS)?;
            let rows = earlier
                .query_map(params![self.counts.name(queue), limit.round, BACK_AT_ONCE], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        for seq in &earlier {
            self.due_again(queue, *seq)?;
        }
        Ok((limit, row::to_i64(earlier.len()) < BACK_AT_ONCE))
    }

    fn due_again(&mut self, queue: QueueNumber, seq: i64) -> rusqlite::Result<()> {
        self.unblock(seq)?;
        if self.sql.execute(DUE_AGAIN, [seq])? == 0 {
            self.is_suspect = true;
            return Ok(());
        }
        self.counts.exit(queue, RowState::Blocked, 0);
        self.counts.enter(queue, RowState::Due, 0);
        Ok(())
    }
}
