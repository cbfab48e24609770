//! A connection during one call: statements, each with a limit on how long its answer may take, and a transaction
//! where one statement is not enough.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};

use super::error::Fault;
use super::search_starts::{DueAgain, Inserting, SearchStarts};
use super::sql::Sql;
use crate::store::hint_set::HintSet;

/// How long one answer may take. After that the connection counts as half open. It is somewhat longer than the
/// server's own limit ([`SETTINGS`]), so that a slow statement can be distinguished from a silent server.
const PATIENCE: Duration = Duration::from_secs(8);

/// The start of every transaction of several statements. The timeouts keep a process that stands still inside one
/// (SIGSTOP, a machine that is gone) from blocking others on the rows it has locked. JIT is off: the planner
/// overestimates plans that step along an index, and compiling one would take a thousand times as long as running it.
const BEGIN: &str = "
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL jit = off;
SET LOCAL enable_seqscan = off;
SET LOCAL random_page_cost = 0;
SET LOCAL plan_cache_mode = force_generic_plan;
SET LOCAL statement_timeout = '7s';
SET LOCAL idle_in_transaction_session_timeout = '7s'";

/// The same settings for connections of our own, as options of the connection. Three of them keep plans good. A plan
/// made while the table was small is kept while it grows, even if it reads the whole table. So sequential scans are
/// disabled and page reads cost nothing, which makes even that plan an index plan. And each statement is planned once,
/// not for each set of values, because planning takes longer than running it.
pub(super) const SETTINGS: [(&str, &str); 6] = [
    ("statement_timeout", "7s"),
    ("idle_in_transaction_session_timeout", "7s"),
    ("jit", "off"),
    ("enable_seqscan", "off"),
    ("random_page_cost", "0"),
    ("plan_cache_mode", "force_generic_plan"),
];

/// A connection during one call.
pub(super) struct Session<'c> {
    connection: &'c mut PgConnection,
    sql: &'c Sql,
    /// Whether the server may keep prepared statements from one call to the next.
    persistent: bool,
    /// Whether a transaction was begun here.
    in_transaction: bool,
    /// What changed that listeners may wait for.
    pub(super) changes: HintSet,
    /// Whether a claim was made from a queue with limits over all processes.
    pub(super) has_limits: bool,
    /// Where claims start to search.
    pub(super) starts: &'c SearchStarts,
    /// Set while the tasks of an insert may not have been committed.
    pub(super) inserting: Option<Inserting<'c>>,
    /// The tasks that wait again and are due once this transaction has been committed.
    pub(super) due_again: Vec<DueAgain>,
    /// The queues whose rows this transaction has locked.
    pub(super) locked_queues: BTreeSet<String>,
    pub(super) patience: Duration,
}

pub(super) type Statement = Query<'static, Postgres, PgArguments>;

impl<'c> Session<'c> {
    pub(super) fn new(
        connection: &'c mut PgConnection,
        sql: &'c Sql,
        starts: &'c SearchStarts,
        persistent: bool,
    ) -> Self {
        Self {
            connection,
            sql,
            persistent,
            in_transaction: false,
            changes: HintSet::NONE,
            has_limits: false,
            starts,
            inserting: None,
            due_again: Vec::new(),
            locked_queues: BTreeSet::new(),
            patience: PATIENCE,
        }
    }

    /// A connection inside a transaction of the caller, who commits it or not.
    pub(super) fn within(
        connection: &'c mut PgConnection,
        sql: &'c Sql,
        starts: &'c SearchStarts,
        persistent: bool,
    ) -> Self {
        Self { in_transaction: true, ..Self::new(connection, sql, starts, persistent) }
    }

    pub(super) fn is_in_transaction(&self) -> bool {
        self.in_transaction
    }

    pub(super) fn prefix(&self) -> &str {
        self.sql.prefix()
    }

    /// The statement with this text, to bind values to.
    pub(super) fn query(&self, text: &'static str) -> Statement {
        sqlx::query(self.sql.text(text)).persistent(self.persistent)
    }

    pub(super) async fn all(&mut self, statement: Statement) -> Result<Vec<PgRow>, Fault> {
        answer(self.patience, statement.fetch_all(&mut *self.connection)).await
    }

    pub(super) async fn one(&mut self, statement: Statement) -> Result<PgRow, Fault> {
        answer(self.patience, statement.fetch_one(&mut *self.connection)).await
    }

    pub(super) async fn optional(&mut self, statement: Statement) -> Result<Option<PgRow>, Fault> {
        answer(self.patience, statement.fetch_optional(&mut *self.connection)).await
    }

    /// Answers how many rows were affected.
    pub(super) async fn execute(&mut self, statement: Statement) -> Result<u64, Fault> {
        let done = answer(self.patience, statement.execute(&mut *self.connection)).await?;
        Ok(done.rows_affected())
    }

    /// Runs statements without values, not prepared.
    pub(super) async fn script(&mut self, text: &'static str) -> Result<(), Fault> {
        let script = sqlx::raw_sql(self.sql.text(text));
        answer(self.patience, script.execute(&mut *self.connection)).await.map(drop)
    }

    /// Begins a transaction. Inside one it does nothing.
    pub(super) async fn begin(&mut self) -> Result<(), Fault> {
        if !self.in_transaction {
            self.script(BEGIN).await?;
            self.in_transaction = true;
        }
        Ok(())
    }

    /// Commits. After an error the transaction is over too, and it is unknown whether it was committed.
    pub(super) async fn commit(&mut self) -> Result<(), Fault> {
        self.end("COMMIT").await
    }

    pub(super) async fn roll_back(&mut self) -> Result<(), Fault> {
        self.end("ROLLBACK").await
    }

    async fn end(&mut self, text: &'static str) -> Result<(), Fault> {
        if std::mem::take(&mut self.in_transaction) {
            self.locked_queues.clear();
            self.script(text).await?;
        }
        Ok(())
    }
}

async fn answer<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(patience, work).await {
        Ok(answer) => answer.map_err(Fault::Sql),
        Err(_) => Err(Fault::Silent(patience)),
    }
}
