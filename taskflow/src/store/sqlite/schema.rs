//! The tables, and the migrations that create them.
//!
//! The name of every table begins with `taskflow_`, so that an application's own file can be the store. The applied
//! versions are rows of `taskflow_migrations`. `user_version` belongs to the application; the store does not touch it.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::error::store_error;
use crate::model::{StoreError, StoreErrorKind, time};
use crate::store::fingerprint;

/// All migrations in order, number 1 first. Until the first release, number 1 is edited in place; after it, only append to
/// this list.
const MIGRATIONS: [&str; 1] = [FIRST];

/// A task is written three times, so its table has only the indexes that every task needs: each index costs every insert,
/// even if the row is not in it. Data that only some tasks need has tables of its own: keys, tasks that are not due yet,
/// tasks that expire, tasks blocked by their concurrency key, and tasks that ended without success. Large columns come last,
/// so that the columns before them can be read without them.
///
/// The tables are strict, and counters have bounds. So SQLite itself refuses writes of another program that violate a
/// type or a bound. Damage that only reading can find is handled in [`damage`](super::damage) and
/// [`integrity`](super::integrity).
const FIRST: &str = "
CREATE TABLE taskflow_tasks (
    seq INTEGER PRIMARY KEY CHECK (seq BETWEEN 1 AND 1000000000000000),    -- the order of first inserts
    id BLOB NOT NULL CHECK (length(id) = 16),
    state INTEGER NOT NULL CHECK (state BETWEEN -1 AND 8),
                                        -- -1 blocked: its concurrency key is busy, or it has expired
                                        -- 0 due, 1 later, 2 held, 3 running, 4 success, 5 failed, 6 interrupted,
                                        -- 7 cancelled, 8 rejected
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL CHECK (priority BETWEEN -32768 AND 32767),
    name TEXT NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt BETWEEN 0 AND 4294967296),
    max_attempts INTEGER NOT NULL CHECK (max_attempts BETWEEN 0 AND 4294967296),
    fence INTEGER NOT NULL CHECK (fence BETWEEN 0 AND 1000000000000000),
    lost_runs INTEGER NOT NULL DEFAULT 0 CHECK (lost_runs BETWEEN 0 AND 4294967296),
    snoozes INTEGER NOT NULL DEFAULT 0 CHECK (snoozes BETWEEN 0 AND 4294967296),
    cancel_requested INTEGER NOT NULL DEFAULT 0 CHECK (cancel_requested IN (0, 1)),
    prefetch INTEGER NOT NULL,          -- attempts that may be prefetched: 0 none, 1 all but the last, 2 all
    instance INTEGER,                   -- taskflow_instances.number: runs or holds the task, or ran it with success
    lease_until INTEGER,                -- the end of the lease of a run or a hold
    run_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    scheduled_for INTEGER,
    expires_at INTEGER,
    started_at INTEGER,
    finished_at INTEGER,
    source TEXT NOT NULL,
    idempotency_key TEXT,
    run_key TEXT,
    concurrency_key TEXT,
    policy TEXT,                        -- JSON; null for the default
    tags TEXT,                          -- JSON; null for none
    trace TEXT,                         -- traceparent, and after a space tracestate; null for none
    progress TEXT,                      -- JSON
    error TEXT,
    result TEXT,
    args TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX taskflow_tasks_id ON taskflow_tasks (id);
-- The due tasks of each name lie together, so that a claim reads no task whose name it does not know.
CREATE INDEX taskflow_tasks_ready ON taskflow_tasks (queue, name, priority DESC, seq) WHERE state = 0;
CREATE INDEX taskflow_tasks_leases ON taskflow_tasks (lease_until, instance, cancel_requested)
    WHERE lease_until IS NOT NULL;

-- The keys that are taken.
CREATE TABLE taskflow_keys (
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,                 -- 'idempotency': of a pending, running or succeeded task
                                        -- 'run': of a pending task without an attempt
    task INTEGER NOT NULL,              -- taskflow_tasks.seq
    PRIMARY KEY (key, name, kind)
) STRICT, WITHOUT ROWID;

-- Tasks of state 1.
CREATE TABLE taskflow_later (
    run_at INTEGER NOT NULL,
    task INTEGER NOT NULL,              -- taskflow_tasks.seq
    queue TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (run_at, task)
) STRICT, WITHOUT ROWID;

-- Pending tasks with an expires_at, except held ones.
CREATE TABLE taskflow_expiring (
    lapsed INTEGER NOT NULL,            -- 1: expires_at has passed, and the state of the task is -1
    expires_at INTEGER NOT NULL,
    task INTEGER NOT NULL,              -- taskflow_tasks.seq
    PRIMARY KEY (lapsed, expires_at, task)
) STRICT, WITHOUT ROWID;

-- Tasks of state -1 that wait until another task of their concurrency key has ended.
CREATE TABLE taskflow_blocked (
    task INTEGER PRIMARY KEY,           -- taskflow_tasks.seq
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    priority INTEGER NOT NULL,
    round INTEGER NOT NULL              -- taskflow_queues.key_round when the task was blocked
) STRICT;
CREATE INDEX taskflow_blocked_next ON taskflow_blocked (queue, key, name, priority DESC, task);
CREATE INDEX taskflow_blocked_round ON taskflow_blocked (queue, round);

-- The number of running tasks of each concurrency key; a key without any has no row.
CREATE TABLE taskflow_running_keys (
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    running INTEGER NOT NULL CHECK (abs(running) <= 1000000000000000),
    PRIMARY KEY (queue, key)
) STRICT, WITHOUT ROWID;

-- Tasks that ended without success: states 5 to 8.
CREATE TABLE taskflow_ended_badly (
    state INTEGER NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 16),
    PRIMARY KEY (state, id)
) STRICT, WITHOUT ROWID;

-- Ended attempts, except a successful one: it is in the row of its task.
CREATE TABLE taskflow_attempts (
    task INTEGER NOT NULL,              -- taskflow_tasks.seq
    n INTEGER NOT NULL CHECK (n BETWEEN 1 AND 1000000000000000),
    number INTEGER NOT NULL,
    instance BLOB NOT NULL,             -- taskflow_instances.id
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    error TEXT,
    PRIMARY KEY (task, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE taskflow_logs (
    task INTEGER NOT NULL,              -- taskflow_tasks.seq
    n INTEGER NOT NULL CHECK (n BETWEEN 1 AND 1000000000000000),
    at INTEGER NOT NULL,
    level TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (task, n)
) STRICT, WITHOUT ROWID;

-- Queues, with the number of their tasks in each state. Writes keep these numbers up to date, so that no read counts rows.
CREATE TABLE taskflow_queues (
    name TEXT PRIMARY KEY,
    paused INTEGER NOT NULL DEFAULT 0,
    config TEXT,                        -- JSON; the configuration that set_queue stored
    starts TEXT,                        -- JSON; the recent starts, if the queue has had a rate limit
    key_limit INTEGER,                  -- how many tasks of one concurrency key may run, as the last claim said
    key_round INTEGER NOT NULL DEFAULT 0 CHECK (key_round BETWEEN 0 AND 1000000000000000),
                                        -- how often key_limit has changed
    refused INTEGER NOT NULL DEFAULT 0 CHECK (abs(refused) <= 1000000000000000),
    blocked INTEGER NOT NULL DEFAULT 0 CHECK (abs(blocked) <= 1000000000000000),
    due INTEGER NOT NULL DEFAULT 0 CHECK (abs(due) <= 1000000000000000),
    later INTEGER NOT NULL DEFAULT 0 CHECK (abs(later) <= 1000000000000000),
    held INTEGER NOT NULL DEFAULT 0 CHECK (abs(held) <= 1000000000000000),
    running INTEGER NOT NULL DEFAULT 0 CHECK (abs(running) <= 1000000000000000),
    success INTEGER NOT NULL DEFAULT 0 CHECK (abs(success) <= 1000000000000000),
    failed INTEGER NOT NULL DEFAULT 0 CHECK (abs(failed) <= 1000000000000000),
    interrupted INTEGER NOT NULL DEFAULT 0 CHECK (abs(interrupted) <= 1000000000000000),
    cancelled INTEGER NOT NULL DEFAULT 0 CHECK (abs(cancelled) <= 1000000000000000),
    rejected INTEGER NOT NULL DEFAULT 0 CHECK (abs(rejected) <= 1000000000000000),
    waiting_first INTEGER NOT NULL DEFAULT 0 CHECK (abs(waiting_first) <= 1000000000000000)
                                        -- pending tasks whose attempt is 0
) STRICT, WITHOUT ROWID;

-- How many tasks of a queue ended in each of the last sixty seconds.
CREATE TABLE taskflow_ended_lately (
    queue TEXT NOT NULL,
    second INTEGER NOT NULL,            -- since the epoch
    ended INTEGER NOT NULL CHECK (ended BETWEEN 0 AND 1000000000000000),
    PRIMARY KEY (queue, second)
) STRICT, WITHOUT ROWID;

CREATE TABLE taskflow_schedules (
    name TEXT PRIMARY KEY,
    last_tick INTEGER,                  -- the latest tick that was handled
    last_outcome TEXT,                  -- the outcome of last_tick
    last_start INTEGER,                 -- the latest tick for a start of the program
    last_task BLOB,
    paused INTEGER NOT NULL DEFAULT 0,
    definition TEXT,                    -- of a schedule that was added at run time
    declared TEXT,                      -- the timing of a schedule that a program declares
    declared_since INTEGER,             -- the start of the youngest process that declares this timing
    skipped INTEGER NOT NULL DEFAULT 0, -- the number of skipped ticks
    last_skipped INTEGER                -- the latest tick that was skipped, or with which others were
) STRICT, WITHOUT ROWID;

-- The order in which schedules were defined and removed at run time: each once, at its latest change.
CREATE TABLE taskflow_schedule_log (
    version INTEGER PRIMARY KEY CHECK (version BETWEEN 1 AND 1000000000000000),
    name TEXT NOT NULL UNIQUE,
    removed INTEGER NOT NULL
) STRICT;
CREATE INDEX taskflow_schedule_removed ON taskflow_schedule_log (version) WHERE removed = 1;

CREATE TABLE taskflow_instances (
    number INTEGER PRIMARY KEY AUTOINCREMENT CHECK (number BETWEEN 1 AND 1000000000000000),
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    runs INTEGER NOT NULL,
    schedules TEXT,                     -- JSON; null for none
    started_at INTEGER NOT NULL,        -- when it first joined
    seen_at INTEGER NOT NULL,
    gone_at INTEGER                     -- null while it is alive, as far as is known
) STRICT;
CREATE INDEX taskflow_instances_there ON taskflow_instances (started_at) WHERE gone_at IS NULL;

-- Small values of other parts of taskflow. The table has row ids, because values may be large. Keys are blobs, so that they
-- are compared byte by byte also in a file whose text is UTF-16.
CREATE TABLE taskflow_documents (
    kind TEXT NOT NULL,
    key BLOB NOT NULL,                  -- UTF-8
    version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 1000000000000000),
    written_at INTEGER NOT NULL,
    expires_at INTEGER,
    value BLOB NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT;
CREATE INDEX taskflow_documents_expiring ON taskflow_documents (expires_at) WHERE expires_at IS NOT NULL;
";

/// Brings a file up to date, one process at a time. Writes nothing to a file that is up to date.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| store_error(error, path);
    if check(connection, path)? == MIGRATIONS.len() {
        return Ok(());
    }
    let behavior = rusqlite::TransactionBehavior::Immediate;
    let transaction = connection.transaction_with_behavior(behavior).map_err(failed)?;
    // Another process may have migrated the file while this one waited for the lock.
    let version = check(&transaction, path)?;
    transaction
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS taskflow_migrations (
                 version INTEGER PRIMARY KEY,
                 applied_at INTEGER NOT NULL,
                 fingerprint TEXT            -- of the migration's text
             );",
        )
        .map_err(failed)?;
    for (number, migration) in (1_i64..).zip(MIGRATIONS).skip(version) {
        transaction.execute_batch(migration).map_err(failed)?;
        transaction
            .execute(
                "INSERT INTO taskflow_migrations (version, applied_at, fingerprint) VALUES (?1, ?2, ?3)",
                rusqlite::params![number, time::now_micros(), fingerprint::of([migration])],
            )
            .map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// Whether a file is a store of this version.
pub(super) fn is_current(connection: &Connection, path: &Path) -> Result<bool, StoreError> {
    Ok(check(connection, path)? == MIGRATIONS.len())
}

/// The schema version of a file; 0 if it is not a store yet. An error if the store must not touch the file.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let found = version(connection).map_err(|error| store_error(error, path))?;
    let file = path.display();
    match found {
        Some(version) if version > MIGRATIONS.len() => Err(StoreError::new(
            StoreErrorKind::NewerSchema,
            format!(
                "`{file}` was written by a newer taskflow (its schema is {version}, this program knows {}); \
                 update this program",
                MIGRATIONS.len()
            ),
        )),
        Some(version) => {
            let known = MIGRATIONS[..version].iter().map(|migration| Some(fingerprint::of([*migration])));
            let found = fingerprints(connection).map_err(|error| store_error(error, path))?;
            if known.eq(found) { Ok(version) } else { Err(fingerprint::refused(&format!("`{file}`"))) }
        }
        None if has_table(connection, "taskflow_tasks").map_err(|error| store_error(error, path))? => {
            Err(StoreError::new(
                StoreErrorKind::NotAStore,
                format!(
                    "`{file}` has a table `taskflow_tasks` that taskflow did not create; \
                     rename that table or use another file"
                ),
            ))
        }
        None => Ok(0),
    }
}

/// The number of the last migration that was applied to a file; `None` if there was none.
fn version(connection: &Connection) -> rusqlite::Result<Option<usize>> {
    if !has_table(connection, "taskflow_migrations")? {
        return Ok(None);
    }
    let version: Option<i64> =
        connection.query_row("SELECT max(version) FROM taskflow_migrations", [], |row| row.get(0))?;
    Ok(Some(version.and_then(|version| usize::try_from(version).ok()).unwrap_or(0)))
}

/// The fingerprint of each migration of a file, in order. A file that is older than fingerprints has none.
fn fingerprints(connection: &Connection) -> rusqlite::Result<Vec<Option<String>>> {
    let column = "SELECT 1 FROM pragma_table_info('taskflow_migrations') WHERE name = 'fingerprint'";
    if connection.query_row(column, [], |_| Ok(())).optional()?.is_none() {
        return Ok(vec![None]);
    }
    let mut statement = connection.prepare("SELECT fingerprint FROM taskflow_migrations ORDER BY version")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let query = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    Ok(connection.query_row(query, [name], |_| Ok(())).optional()?.is_some())
}
