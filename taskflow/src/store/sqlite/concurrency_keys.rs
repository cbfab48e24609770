//! How many tasks of one concurrency key run, and those that wait for others of their key.
//!
//! A due task whose key is busy is *blocked* when a claim meets it: it is in nobody's way then, however many there are.
//! Whenever a task of its queue and key that ran or was due is no longer either, the first of each name is made due
//! again: of each name, since nobody may be there who knows the first. Whether it may run is for the next claim to find
//! out. So there is always one that runs or is due while any is blocked. Nobody else writes between what a
//! transaction sees and what it does, so no end of a run comes between a claim's look at a key and its putting aside.
//!
//! Where the limit of a queue becomes another, all that was blocked under the old one is made due again, some of it
//! with each claim: the queue counts such changes (`key_round`).

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::queue_counts::{KeyLimit, QueueNumber};
use super::readable;
use super::row;
use super::row_state::RowState;
use super::transaction::Transaction;

/// The most tasks that one claim puts aside.
pub(super) const BLOCKED_AT_ONCE: usize = 1000;

/// The most tasks that one claim makes due again since a limit has changed: fewer, so that claims which disagree about
/// the limit get on all the same.
const BACK_AT_ONCE: i64 = 500;

const KEY: &str = "SELECT concurrency_key FROM taskflow_tasks WHERE seq = ?1";

const RUNNING: &str = "SELECT running FROM taskflow_running_keys WHERE queue = ?1 AND key = ?2";

const ONE_MORE: &str = "
INSERT INTO taskflow_running_keys (queue, key, running) VALUES (?1, ?2, 1)
ON CONFLICT (queue, key) DO UPDATE SET running = running + 1";

const ONE_LESS: &str = "UPDATE taskflow_running_keys SET running = running - 1 WHERE queue = ?1 AND key = ?2";

const NONE_RUNS: &str = "DELETE FROM taskflow_running_keys WHERE queue = ?1 AND key = ?2 AND running <= 0";

const PUT_ASIDE: &str = "UPDATE taskflow_tasks SET state = -1 WHERE seq IN (SELECT value FROM json_each(?1))";

const NOTE_PUT_ASIDE: &str = "
INSERT OR REPLACE INTO taskflow_blocked (task, queue, key, name, priority, round)
SELECT seq, queue, concurrency_key, name, priority, ?2
FROM taskflow_tasks WHERE seq IN (SELECT value FROM json_each(?1))";

/// The first of the first name from `?3` on.
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

    /// How many tasks of a key run.
    pub(super) fn running_of_key(&self, queue: &str, key: &str) -> rusqlite::Result<i64> {
        let running = self.sql.get(RUNNING)?.query_row([queue, key], |row| row.get(0)).optional()?;
        Ok(running.unwrap_or(0))
    }

    /// A task of a key has begun to run.
    pub(super) fn key_runs(&self, queue: &str, key: &str) -> rusqlite::Result<()> {
        self.sql.execute(ONE_MORE, [queue, key]).map(drop)
    }

    /// A task of a key has ceased to run, or to be due: the next of the key comes.
    pub(super) fn key_is_left(
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
            // The first name after that one.
            from = of_name + "\0";
        }
    }

    /// Puts due tasks of a queue aside.
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
        self.sql.execute(NOTE_PUT_ASIDE, params![list, limit.round])?;
        self.sql.execute(PUT_ASIDE, [list])?;
        for _ in seqs {
            // Whatever attempts they made: whether they wait for the first does not change.
            self.counts.exit(queue, RowState::Due, 0);
            self.counts.enter(queue, RowState::Blocked, 0);
        }
        Ok(())
    }

    /// A row is not blocked any more, if it was.
    pub(super) fn unblock(&self, seq: i64) -> rusqlite::Result<()> {
        self.sql.execute(UNBLOCK, [seq]).map(drop)
    }

    /// From now on so many tasks of one key may run. Answers that with the round it is, and whether all that was put
    /// aside under another limit is due again.
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
