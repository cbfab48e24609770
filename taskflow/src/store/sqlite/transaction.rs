//! The transaction in which the jobs of the writer run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Row;

use super::queue_counts::CountDeltas;
use super::row;
use super::statements::Statements;
use crate::model::{RetryPolicy, TaskId, time};

/// The number of decoded policies to remember.
const POLICIES: usize = 64;

/// The most runs and holds whose rows are remembered. Beyond that, all are forgotten, and their ends are slower.
const RUNS: usize = 100_000;

/// A writer that waits longer than this was blocked by another process, and not only waiting for its turn.
const BLOCKED: Duration = Duration::from_millis(500);

/// How long all processes have to renew their leases after a blocked file can be written again.
const CATCH_UP: Duration = Duration::from_secs(3);

/// The writer's connection inside a transaction, and the caches that the writer keeps from one transaction to the next.
pub(super) struct Transaction<'w, 'c> {
    pub(super) sql: &'w Statements<'c>,
    pub(super) counts: CountDeltas,
    /// When the transaction began.
    pub(super) now: i64,
    /// Whether the transaction changed something for which another manager on this store may wait.
    pub(super) should_notify: bool,
    /// Whether the transaction found damage, which another program must have caused.
    pub(super) is_suspect: bool,
    /// When another process last released the file after it had blocked all writers.
    unblocked_at: Option<Instant>,
    known: Option<Arc<Known>>,
    policies: HashMap<Box<str>, Arc<RetryPolicy>>,
    default_policy: Arc<RetryPolicy>,
    runs: HashMap<TaskId, Place>,
}

/// Where the row of a run is. This is only a hint: each statement that uses it checks that the row is the expected one.
pub(super) struct Place {
    pub(super) seq: i64,
    pub(super) queue: Arc<str>,
}

/// The task names that a claim knows.
pub(super) struct Known {
    names: Arc<[Arc<str>]>,
    sorted: Vec<Arc<str>>,
}

impl Known {
    pub(super) fn new(names: &Arc<[Arc<str>]>) -> Self {
        let mut sorted = names.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        Self { names: Arc::clone(names), sorted }
    }

    /// Each name once, in the order in which the file sorts names.
    pub(super) fn sorted(&self) -> &[Arc<str>] {
        &self.sorted
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.sorted.binary_search_by(|known| (**known).cmp(name)).is_ok()
    }
}

impl<'w, 'c> Transaction<'w, 'c> {
    pub(super) fn new(sql: &'w Statements<'c>) -> Self {
        Self {
            sql,
            counts: CountDeltas::default(),
            now: 0,
            should_notify: false,
            is_suspect: false,
            unblocked_at: None,
            known: None,
            policies: HashMap::new(),
            default_policy: Arc::new(RetryPolicy::DEFAULT),
            runs: HashMap::new(),
        }
    }

    pub(super) fn begin(&mut self) -> rusqlite::Result<()> {
        self.counts.clear();
        (self.should_notify, self.is_suspect) = (false, false);
        let asked_at = Instant::now();
        self.sql.execute("BEGIN IMMEDIATE", [])?;
        if asked_at.elapsed() > BLOCKED {
            self.unblocked_at = Some(Instant::now());
        }
        // Read the clock only after the lock is taken, because waiting for it takes time.
        self.now = time::now_micros();
        Ok(())
    }

    /// Whether the file was blocked until just now, so that live processes may still have to renew their leases.
    pub(super) fn was_just_blocked(&self) -> bool {
        self.unblocked_at.is_some_and(|at| at.elapsed() < CATCH_UP)
    }

    /// Begins a savepoint in the caller's open transaction, which can be undone alone.
    pub(super) fn join(&mut self) -> rusqlite::Result<()> {
        self.counts.clear();
        (self.should_notify, self.is_suspect) = (false, false);
        self.sql.execute("SAVEPOINT taskflow", [])?;
        self.now = time::now_micros();
        Ok(())
    }

    /// Ends the savepoint and leaves its changes to the caller's transaction.
    pub(super) fn part(&mut self) -> rusqlite::Result<()> {
        self.sql.execute("RELEASE taskflow", []).map(drop)
    }

    /// Undoes the savepoint. The caller's transaction stays open.
    pub(super) fn part_without(&mut self) -> rusqlite::Result<()> {
        self.sql.execute("ROLLBACK TO taskflow", [])?;
        self.part()
    }

    /// Writes the collected counts. Call it before the commit.
    pub(super) fn complete(&mut self) -> rusqlite::Result<()> {
        self.counts.write(self.sql, self.now)
    }

    pub(super) fn commit(&mut self) -> rusqlite::Result<()> {
        self.sql.execute("COMMIT", []).map(drop)
    }

    /// Rolls the transaction back, unless SQLite has already done so.
    pub(super) fn roll_back(&mut self) {
        if !self.sql.connection().is_autocommit() {
            let _ = self.sql.execute("ROLLBACK", []);
        }
    }

    /// The names of a claim, sorted for lookups. They are cached, because an instance asks with the same list each
    /// time.
    pub(super) fn known(&mut self, names: &Arc<[Arc<str>]>) -> Arc<Known> {
        match &self.known {
            Some(known) if Arc::ptr_eq(&known.names, names) => Arc::clone(known),
            _ => Arc::clone(self.known.insert(Arc::new(Known::new(names)))),
        }
    }

    /// Remembers where the row of a run or a hold is until it ends. Only for runs without a concurrency key, because the end
    /// of such a run changes only its row and the counts, and for holds with neither a concurrency key nor a run key.
    pub(super) fn remember(&mut self, id: TaskId, seq: i64, queue: &Arc<str>) {
        if self.runs.len() >= RUNS {
            self.runs.clear();
        }
        self.runs.insert(id, Place { seq, queue: Arc::clone(queue) });
    }

    pub(super) fn place(&mut self, id: TaskId) -> Option<Place> {
        self.runs.remove(&id)
    }

    /// The policy in that column of the row. Decoded policies are cached.
    pub(super) fn policy(&mut self, row: &Row<'_>, column: usize) -> rusqlite::Result<Arc<RetryPolicy>> {
        let json = row.get_ref(column)?.as_str_or_null()?;
        let Some(json) = json else { return Ok(Arc::clone(&self.default_policy)) };
        if let Some(policy) = self.policies.get(json) {
            return Ok(Arc::clone(policy));
        }
        let policy = row::readable_policy(Some(json)).map_err(|why| row::column("policy", column, &why))?;
        let policy = Arc::new(policy);
        if self.policies.len() >= POLICIES {
            self.policies.clear();
        }
        self.policies.insert(Box::from(json), Arc::clone(&policy));
        Ok(policy)
    }
}

impl std::fmt::Debug for Transaction<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").field("now", &self.now).finish_non_exhaustive()
    }
}
