//! One call's use of a connection: statements, each with a limit to how long its answer may take, and a transaction
//! where one statement is not enough.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};

use super::error::Fault;
use super::sql::Sql;

/// How long one answer may take. Beyond it the connection is taken for half open. Somewhat longer than the server's own
/// limit ([`SETTINGS`]), so that a slow statement is told from a silent server.
const PATIENCE: Duration = Duration::from_secs(8);

/// What every transaction of several statements begins with. A process that stands still inside one (SIGSTOP, a machine
/// that is gone) must not keep others from the rows it has locked. Nothing is compiled: the planner takes what goes along an
/// index step by step for long work, and to compile it would take a thousand times as long as to do it.
const BEGIN: &str = "
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL jit = off;
SET LOCAL enable_seqscan = off;
SET LOCAL random_page_cost = 0;
SET LOCAL plan_cache_mode = force_generic_plan;
SET LOCAL statement_timeout = '7s';
SET LOCAL idle_in_transaction_session_timeout = '7s'";

/// The same for connections of our own, as options of the connection. And what makes plans last: one that was made when the
/// table was small is kept while it grows, and that it reads all of it was right once. So nothing is worth it to read all, and
/// no page costs so much that fewer steps are better than sure ones; and a statement is planned once, not for each of its
/// values, which takes longer than to do it.
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
    /// Whether the server may remember statements from one call to the next.
    persistent: bool,
    /// Whether a transaction was begun here.
    in_transaction: bool,
    /// Whether something was changed that another process may wait for.
    pub(super) should_notify: bool,
    /// The queues whose rows this transaction has locked.
    pub(super) locked_queues: BTreeSet<String>,
    pub(super) patience: Duration,
}

pub(super) type Statement = Query<'static, Postgres, PgArguments>;

impl<'c> Session<'c> {
    pub(super) fn new(connection: &'c mut PgConnection, sql: &'c Sql, persistent: bool) -> Self {
        let patience = PATIENCE;
        let locked_queues = BTreeSet::new();
        Self {
            connection,
            sql,
            persistent,
            in_transaction: false,
            should_notify: false,
            locked_queues,
            patience,
        }
    }

    /// A connection inside a transaction of its owner's, who commits it or not.
    pub(super) fn within(connection: &'c mut PgConnection, sql: &'c Sql, persistent: bool) -> Self {
        Self { in_transaction: true, ..Self::new(connection, sql, persistent) }
    }

    pub(super) fn is_in_transaction(&self) -> bool {
        self.in_transaction
    }

    pub(super) fn prefix(&self) -> &str {
        self.sql.prefix()
    }

    /// The statement of that text, to bind values to.
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

    /// Answers how many rows it concerned.
    pub(super) async fn execute(&mut self, statement: Statement) -> Result<u64, Fault> {
        let done = answer(self.patience, statement.execute(&mut *self.connection)).await?;
        Ok(done.rows_affected())
    }

    /// Statements without values, not prepared.
    pub(super) async fn script(&mut self, text: &'static str) -> Result<(), Fault> {
        let script = sqlx::raw_sql(self.sql.text(text));
        answer(self.patience, script.execute(&mut *self.connection)).await.map(drop)
    }

    /// From here on, everything or nothing. Within a transaction it changes nothing.
    pub(super) async fn begin(&mut self) -> Result<(), Fault> {
        if !self.in_transaction {
            self.script(BEGIN).await?;
            self.in_transaction = true;
        }
        Ok(())
    }

    /// After an error the transaction is over too: whether it was committed is not known.
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
