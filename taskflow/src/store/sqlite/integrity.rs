//! Looks whether other hands have written in the tables.
//!
//! No call of the store looks for that on its way. A reader looks over what a file holds once after it was opened, and
//! again after somebody else has written to it, at most a hundredth of the time (a tenth while there is damage): the
//! numbers of the queues against what they count, and some of the rows each time, until all have been seen.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::damage;
use super::reader::on_one_state;
use super::statements::Statements;

/// Rows that one look checks: some 30 ms.
const ROWS: i64 = 10_000;

/// The first look after a file was opened, or somebody else wrote to it, comes so much later.
const SOON: Duration = Duration::from_millis(500);

/// Between two looks there are so many times as long as the last took.
const PAUSE: u32 = 100;

/// The same after a look that found damage: there may be more, and tasks that wait for the repair.
const PAUSE_AFTER_DAMAGE: u32 = 10;

/// Whether the numbers of what has not ended are those of the rows.
const NUMBERS_DIFFER: &str = "
WITH live AS (
    SELECT queue, state, attempt FROM taskflow_tasks INDEXED BY taskflow_tasks_ready WHERE state = 0
    UNION ALL
    SELECT t.queue, iif(l.queue = t.queue AND l.name = t.name AND l.run_at = t.run_at, t.state, 9), t.attempt
    FROM taskflow_later l CROSS JOIN taskflow_tasks t ON t.seq = l.task
    UNION ALL
    SELECT queue, state, attempt FROM taskflow_tasks INDEXED BY taskflow_tasks_leases WHERE lease_until IS NOT NULL
    UNION ALL
    SELECT t.queue, iif(p.queue = t.queue AND p.name = t.name AND p.key = t.concurrency_key, t.state, 9), t.attempt
    FROM taskflow_blocked p CROSS JOIN taskflow_tasks t ON t.seq = p.task
    UNION ALL
    SELECT t.queue, t.state, t.attempt
    FROM taskflow_expiring e CROSS JOIN taskflow_tasks t ON t.seq = e.task WHERE e.lapsed = 1
), counted AS (
    SELECT queue, sum(state = -1) AS blocked, sum(state = 0) AS due, sum(state = 1) AS later, sum(state = 2) AS held,
           sum(state = 3) AS running, sum(state < 3 AND attempt = 0) AS waiting_first, sum(state > 3) AS others
    FROM live GROUP BY queue
)
SELECT EXISTS (SELECT 1 FROM counted WHERE others > 0 OR queue NOT IN (SELECT name FROM taskflow_queues))
    OR EXISTS (
        SELECT 1 FROM taskflow_queues q LEFT JOIN counted c ON c.queue = q.name
        WHERE (q.blocked, q.due, q.later, q.held, q.running, q.waiting_first) IS NOT
              (coalesce(c.blocked, 0), coalesce(c.due, 0), coalesce(c.later, 0), coalesce(c.held, 0),
               coalesce(c.running, 0), coalesce(c.waiting_first, 0))
    )
    OR (SELECT count(*) FROM taskflow_tasks) <> (
        SELECT coalesce(sum(blocked + due + later + held + running + success + failed + interrupted + cancelled
                            + rejected), 0)
        FROM taskflow_queues
    )";

/// Whether the numbers of the keys that run are those of the rows.
const KEYS_DIFFER: &str = "
WITH counted AS (
    SELECT queue, concurrency_key AS key, count(*) AS running
    FROM taskflow_tasks INDEXED BY taskflow_tasks_leases
    WHERE lease_until IS NOT NULL AND state = 3 AND concurrency_key IS NOT NULL GROUP BY queue, concurrency_key
)
SELECT EXISTS (SELECT queue, key, running FROM counted EXCEPT SELECT queue, key, running FROM taskflow_running_keys)
    OR EXISTS (SELECT queue, key, running FROM taskflow_running_keys EXCEPT SELECT queue, key, running FROM counted)";

/// Whether one of the rows from a number on is not where rows of its state are.
const ROWS_DIFFER: &str = "
SELECT EXISTS (
    SELECT 1 FROM (SELECT * FROM taskflow_tasks WHERE seq > ?1 ORDER BY seq LIMIT ?2) t
    WHERE (t.state IN (2, 3)) <> (t.lease_until IS NOT NULL)
       OR (t.state >= 4 AND t.finished_at IS NULL)
       OR (t.state = 1 AND NOT EXISTS (
               SELECT 1 FROM taskflow_later l WHERE l.run_at = t.run_at AND l.task = t.seq))
       OR (t.state = -1
           AND NOT EXISTS (SELECT 1 FROM taskflow_blocked p WHERE p.task = t.seq)
           AND NOT EXISTS (
               SELECT 1 FROM taskflow_expiring e
               WHERE e.lapsed = 1 AND e.expires_at = t.expires_at AND e.task = t.seq))
       OR (t.state IN (0, 1) AND t.expires_at IS NOT NULL AND NOT EXISTS (
               SELECT 1 FROM taskflow_expiring e
               WHERE e.lapsed = 0 AND e.expires_at = t.expires_at AND e.task = t.seq))
       OR (t.state >= 5 AND NOT EXISTS (
               SELECT 1 FROM taskflow_ended_badly b WHERE b.state = t.state AND b.id = t.id))
)";

/// When to look, and how far a look has come.
#[derive(Debug)]
pub(super) struct IntegrityChecks(Mutex<Progress>);

#[derive(Debug)]
struct Progress {
    /// Counts what asked for a look.
    wanted: u64,
    /// The last that was answered by a look over everything.
    done: u64,
    /// What this look over everything answers.
    answers: u64,
    /// The last row that was seen.
    from: i64,
    next_at: Instant,
    is_under_way: bool,
}

/// What a look found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) is_inconsistent: bool,
    /// Rows that cannot be read.
    pub(super) flawed: Vec<i64>,
    /// The last row that was seen; `None` when that was the last there is.
    last: Option<i64>,
    took: Duration,
}

impl Found {
    pub(super) fn is_anything(&self) -> bool {
        self.is_inconsistent || !self.flawed.is_empty()
    }
}

impl Default for IntegrityChecks {
    fn default() -> Self {
        let next_at = Instant::now() + SOON;
        Self(Mutex::new(Progress { wanted: 1, done: 0, answers: 0, from: 0, next_at, is_under_way: false }))
    }
}

impl IntegrityChecks {
    /// Somebody else has written to the file.
    pub(super) fn want(&self) {
        let mut progress = self.0.lock();
        if progress.wanted == progress.done {
            progress.next_at = progress.next_at.max(Instant::now() + SOON);
        }
        progress.wanted += 1;
    }

    /// A look, if it is time for one.
    pub(super) fn begin(&self) -> Option<Look<'_>> {
        let mut progress = self.0.lock();
        let now = Instant::now();
        if progress.is_under_way || progress.wanted == progress.done || now < progress.next_at {
            return None;
        }
        if progress.from == 0 {
            progress.answers = progress.wanted;
        }
        progress.is_under_way = true;
        Some(Look { integrity: self, from: progress.from, found: None })
    }
}

/// A look that is under way, the only one. Dropped without an end, it is repeated.
#[derive(Debug)]
pub(super) struct Look<'a> {
    integrity: &'a IntegrityChecks,
    /// The rows behind this one are looked at.
    pub(super) from: i64,
    found: Option<Found>,
}

impl Look<'_> {
    /// It found that.
    pub(super) fn end(mut self, found: Found) {
        self.found = Some(found);
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        let mut progress = self.integrity.0.lock();
        progress.is_under_way = false;
        let Some(found) = self.found.take() else {
            progress.next_at = Instant::now() + SOON;
            return;
        };
        let pause = if found.is_anything() { PAUSE_AFTER_DAMAGE } else { PAUSE };
        progress.next_at = Instant::now() + (found.took * pause).max(SOON);
        progress.from = found.last.unwrap_or(0);
        if found.last.is_none() {
            progress.done = progress.answers;
        }
    }
}

pub(super) fn look(sql: &Statements<'_>, from: i64) -> rusqlite::Result<Found> {
    let began = Instant::now();
    on_one_state(sql, |sql| {
        let ask = |query, from: Option<i64>| match from {
            Some(from) => sql.get(query)?.query_row([from, ROWS], |row| row.get(0)),
            None => sql.get(query)?.query_row([], |row| row.get(0)),
        };
        let (flawed, last) = damage::among(sql, from, ROWS)?;
        // A sum that is beyond all numbers is not right either.
        let differs = |query, from| ask(query, from).unwrap_or(true);
        let is_inconsistent =
            differs(NUMBERS_DIFFER, None) || differs(KEYS_DIFFER, None) || differs(ROWS_DIFFER, Some(from));
        Ok(Found { is_inconsistent, flawed, last, took: began.elapsed() })
    })
}
