//! Checks whether another program has damaged the tables.
//!
//! No other call of the store checks for damage. A reader checks the file once after it was opened, and again after
//! another connection has written to it or damage was found. It spends at most a hundredth of the time on this (a tenth
//! while there is damage). Each check compares the counts of all queues with the rows, and examines some of the rows. The
//! checks continue until all rows have been examined.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::damage;
use super::reader::on_one_state;
use super::statements::Statements;

/// The number of rows that one check examines. This takes about 30 ms.
const ROWS: i64 = 10_000;

/// The delay of the first check after a file was opened or another process wrote to it.
const SOON: Duration = Duration::from_millis(500);

/// The pause between two checks, as a multiple of the duration of the last one.
const PAUSE: u32 = 100;

/// The same after a check that found damage: there may be more damage, and tasks may wait for the repair.
const PAUSE_AFTER_DAMAGE: u32 = 10;

/// Whether the rows differ from the queues' counts of tasks that have not ended, or from the total of all counts.
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

/// Whether the counts of running concurrency keys differ from the rows.
const KEYS_DIFFER: &str = "
WITH counted AS (
    SELECT queue, concurrency_key AS key, count(*) AS running
    FROM taskflow_tasks INDEXED BY taskflow_tasks_leases
    WHERE lease_until IS NOT NULL AND state = 3 AND concurrency_key IS NOT NULL GROUP BY queue, concurrency_key
)
SELECT EXISTS (SELECT queue, key, running FROM counted EXCEPT SELECT queue, key, running FROM taskflow_running_keys)
    OR EXISTS (SELECT queue, key, running FROM taskflow_running_keys EXCEPT SELECT queue, key, running FROM counted)";

/// Whether one of the first `?2` rows after `?1` contradicts its state: it is missing in a table that must list it, its lease
/// or its end time is missing, or it has a lease that it must not have.
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

/// When to check, and the progress of the current check.
#[derive(Debug)]
pub(super) struct IntegrityChecks(Mutex<Progress>);

#[derive(Debug)]
struct Progress {
    /// The number of requests for a full check.
    wanted: u64,
    /// The last request that a full check has answered.
    done: u64,
    /// The last request that the current full check answers.
    answers: u64,
    /// The last row that was examined.
    from: i64,
    next_at: Instant,
    is_under_way: bool,
}

/// The result of a check.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) is_inconsistent: bool,
    /// The rows that cannot be read.
    pub(super) flawed: Vec<i64>,
    /// The last row that was examined; `None` if there are no more rows.
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
    /// Requests a full check, because another process has written to the file or damage was found.
    pub(super) fn want(&self) {
        let mut progress = self.0.lock();
        if progress.wanted == progress.done {
            progress.next_at = progress.next_at.max(Instant::now() + SOON);
        }
        progress.wanted += 1;
    }

    /// Begins a check, if it is time for one.
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

/// The check in progress; there is at most one. If it is dropped without a result, the check is repeated.
#[derive(Debug)]
pub(super) struct Look<'a> {
    integrity: &'a IntegrityChecks,
    /// The check examines the rows after this one.
    pub(super) from: i64,
    found: Option<Found>,
}

impl Look<'_> {
    /// Ends the check with its result.
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

pub(super) fn check(sql: &Statements<'_>, from: i64) -> rusqlite::Result<Found> {
    let began = Instant::now();
    on_one_state(sql, |sql| {
        let ask = |query, from: Option<i64>| match from {
            Some(from) => sql.get(query)?.query_row([from, ROWS], |row| row.get(0)),
            None => sql.get(query)?.query_row([], |row| row.get(0)),
        };
        let (flawed, last) = damage::among(sql, from, ROWS)?;
        // A sum that overflows is also an inconsistency.
        let differs = |query, from| ask(query, from).unwrap_or(true);
        let is_inconsistent =
            differs(NUMBERS_DIFFER, None) || differs(KEYS_DIFFER, None) || differs(ROWS_DIFFER, Some(from));
        Ok(Found { is_inconsistent, flawed, last, took: began.elapsed() })
    })
}
