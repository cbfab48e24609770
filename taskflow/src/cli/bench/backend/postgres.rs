//! PostgreSQL. Its floor is `sqlx` with two connections: one inserts all waiting adds in one statement, the other finishes
//! and claims in one statement.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use taskflow::store::IntoStore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::target::without_namespace;
use super::worker::{Shared, Turns, to_json};
use super::{Backend, Facts, OldReader, Target, Wear};
use crate::cli::bench::failure::Result;
use crate::cli::bench::ours::Place;
use crate::cli::bench::queue::Queue;
use crate::cli::bench::work::Payload;

/// A server, and the prefix of all names that the bench creates there.
#[derive(Debug)]
pub(super) struct Postgres {
    url: String,
    mark: char,
    options: PgConnectOptions,
    name: String,
    made: AtomicU32,
}

impl Postgres {
    pub(super) async fn open(target: &Target) -> Result<Self> {
        let url = target.url.as_str();
        let mark = without_namespace(url)?;
        // Remove taskflow's own options, which sqlx does not know.
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let ours = |pair: &&str| pair.starts_with("listen=") || pair.starts_with("connections=");
        let rest: Vec<&str> = query.split('&').filter(|pair| !ours(pair)).collect();
        let options: PgConnectOptions = format!("{base}?{}", rest.join("&")).parse()?;
        options.connect().await?.close().await?;
        Ok(Self { url: url.to_owned(), mark, options, name: target.name.clone(), made: AtomicU32::new(0) })
    }

    fn namespace(&self) -> String {
        format!("{}_{}", self.name, self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// The name of a new empty table for a floor.
    async fn new_table(&self) -> Result<String> {
        let table = format!("taskflow_{}_floor", self.namespace());
        let mut connection = self.options.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(SCHEMA.replace("{table}", &table))).execute(&mut connection).await?;
        connection.close().await?;
        Ok(table)
    }

    /// An instance of the floor with that table, which takes its turns by these statements.
    async fn floor_on(&self, table: &str, slots: usize, turn: &[&str]) -> Result<Floor> {
        let (shared, new_tasks) = (Shared::new(slots), Arc::new(Notify::new()));
        let (jobs, waiting) = unbounded_channel();
        let insert = INSERT.replace("{table}", table);
        let inserter = self.options.connect().await?;
        let inserter = tokio::spawn(insert_what_waits(inserter, insert, waiting, Arc::clone(&new_tasks)));
        let claimer = Claimer {
            connection: self.options.connect().await?,
            turn: turn.iter().map(|statement| statement.replace("{table}", table)).collect(),
            new_tasks: Arc::clone(&new_tasks),
        };
        Ok(Floor {
            jobs,
            shared,
            claimer: Arc::new(Mutex::new(Some(claimer))),
            inserter: Arc::new(Mutex::new(Some(inserter))),
        })
    }
}

/// Selects a `DROP` statement for everything that the bench created, by the prefix of its name.
const MADE: &str = "
SELECT format('DROP TABLE %I CASCADE', relname) FROM pg_class
WHERE relkind = 'r' AND pg_table_is_visible(oid) AND starts_with(relname, $1)
UNION ALL
SELECT format('DROP FUNCTION %s', oid::regprocedure) FROM pg_proc
WHERE pg_function_is_visible(oid) AND starts_with(proname, $1)";

const SETTINGS: &str = "
SELECT current_setting('server_version'),
       format('fsync %s, synchronous_commit %s, full_page_writes %s', current_setting('fsync'),
              current_setting('synchronous_commit'), current_setting('full_page_writes')),
       current_setting('shared_buffers')";

impl Backend for Postgres {
    type Floor = Floor;
    type Reader = Reader;

    const HAS_SNAPSHOTS: bool = true;

    fn place(&self) -> Result<Place> {
        let url = format!("{}{}namespace={}", self.url, self.mark, self.namespace());
        Ok(Place::new(move || url.as_str().into_store()))
    }

    async fn floor(&self, slots: usize) -> Result<Floor> {
        let table = self.new_table().await?;
        self.floor_on(&table, slots, &[TURN]).await
    }

    async fn floors(&self, slots: usize, instances: u64) -> Result<Option<Vec<Floor>>> {
        let table = self.new_table().await?;
        let mut floors = Vec::new();
        for _ in 0..instances {
            floors.push(self.floor_on(&table, slots, &[FINISH, CLAIM_NEXT]).await?);
        }
        Ok(Some(floors))
    }

    async fn facts(&self) -> Result<Facts> {
        let mut connection = self.options.connect().await?;
        let row = sqlx::query(SETTINGS).fetch_one(&mut connection).await?;
        Ok(Facts::from([
            ("postgres", row.try_get(0)?),
            ("durability", row.try_get(1)?),
            ("shared_buffers", row.try_get(2)?),
            ("floor", "sqlx, gathered UNNEST inserts, finish and claim in one statement".to_owned()),
        ]))
    }

    async fn read(&self) -> Result<Reader> {
        let mut snapshot = self.options.connect().await?;
        // The first statement takes the snapshot.
        sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").execute(&mut snapshot).await?;
        let prefix = format!("taskflow_{}_", self.name);
        Ok(Reader { snapshot, watcher: self.options.connect().await?, prefix })
    }

    async fn remove(&self) -> Result<()> {
        let mut connection = self.options.connect().await?;
        let prefix = format!("taskflow_{}_", self.name);
        let drops = sqlx::query_scalar(MADE).bind(prefix).fetch_all(&mut connection).await?;
        for drop in drops {
            let drop: String = drop;
            sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await?;
        }
        connection.close().await?;
        Ok(())
    }
}

/// A transaction that keeps its snapshot, and a connection that reads the server's statistics.
#[derive(Debug)]
pub(super) struct Reader {
    snapshot: PgConnection,
    watcher: PgConnection,
    prefix: String,
}

const WEAR: &str = "
SELECT (pg_current_wal_lsn() - '0/0')::bigint,
       (SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables WHERE starts_with(relname, $1))::bigint";

impl OldReader for Reader {
    async fn wear(&mut self) -> Result<Wear> {
        let row = sqlx::query(WEAR).bind(&self.prefix).fetch_one(&mut self.watcher).await?;
        let number = |column: usize| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(column)?.unsigned_abs());
        Ok(Wear { log: number(0)?, dead_rows: number(1)? })
    }

    async fn close(self) -> Result<()> {
        self.snapshot.close().await?;
        Ok(self.watcher.close().await?)
    }
}

const SCHEMA: &str = "
CREATE TABLE {table} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status smallint NOT NULL DEFAULT 0,     -- 0 waiting, 1 running, 2 finished
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    payload text NOT NULL
);
CREATE INDEX {table}_waiting ON {table} (id) WHERE status = 0;
";

const INSERT: &str = "INSERT INTO {table} (payload) SELECT * FROM unnest($1::text[])";

const TURN: &str = "
WITH finished AS (
    UPDATE {table} SET status = 2, finished_at = now() WHERE id = ANY($1)
), next AS (
    SELECT id FROM {table} WHERE status = 0 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE {table} AS task SET status = 1 FROM next WHERE task.id = next.id
RETURNING task.id, task.payload";

/// A turn in two statements, for many instances. `SKIP LOCKED` also locks rows that others have claimed since the statement
/// began, so with a single statement their turns would wait for each other in a circle.
const FINISH: &str = "UPDATE {table} SET status = 2, finished_at = now() WHERE id = ANY($1)";
const CLAIM_NEXT: &str = "
WITH next AS (
    SELECT id FROM {table} WHERE status = 0 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE {table} AS task SET status = 1 FROM next WHERE task.id = next.id
RETURNING task.id, task.payload";

/// Tasks claimed at once.
const CLAIM: i64 = 500;

/// The most calls in one insert.
const GATHER: usize = 1_024;

/// The handle of the floor's two connections.
#[derive(Clone, Debug)]
pub(super) struct Floor {
    jobs: UnboundedSender<Insert>,
    shared: Arc<Shared>,
    /// Present until `run` takes it.
    claimer: Arc<Mutex<Option<Claimer>>>,
    inserter: Arc<Mutex<Option<JoinHandle<Result<()>>>>>,
}

#[derive(Debug)]
struct Insert {
    payloads: Vec<String>,
    done: oneshot::Sender<()>,
}

/// Inserts all waiting adds in one statement. Adds that arrive meanwhile go into the next statement.
async fn insert_what_waits(
    mut connection: PgConnection,
    insert: String,
    mut waiting: UnboundedReceiver<Insert>,
    new_tasks: Arc<Notify>,
) -> Result<()> {
    let mut jobs = Vec::new();
    while waiting.recv_many(&mut jobs, GATHER).await > 0 {
        let mut payloads = Vec::new();
        for job in &mut jobs {
            payloads.append(&mut job.payloads);
        }
        sqlx::query(AssertSqlSafe(insert.as_str())).bind(payloads).execute(&mut connection).await?;
        new_tasks.notify_one();
        for job in jobs.drain(..) {
            // A dropped receiver means that the caller no longer waits.
            let _ = job.done.send(());
        }
    }
    Ok(connection.close().await?)
}

impl Floor {
    async fn insert(&self, payloads: Vec<String>) -> Result<()> {
        let (done, answer) = oneshot::channel();
        self.shared.added.fetch_add(payloads.len() as u64, Ordering::Relaxed);
        self.jobs.send(Insert { payloads, done })?;
        Ok(answer.await?)
    }
}

#[derive(Debug)]
struct Claimer {
    connection: PgConnection,
    turn: Vec<String>,
    /// Notified after each insert.
    new_tasks: Arc<Notify>,
}

impl Turns for Claimer {
    type Id = i64;

    async fn turn(&mut self, finished: Vec<i64>) -> Result<Vec<(i64, String)>> {
        let connection = &mut self.connection;
        match &*self.turn {
            [turn] => {
                let turn = sqlx::query_as(AssertSqlSafe(turn.as_str())).bind(finished).bind(CLAIM);
                Ok(turn.fetch_all(connection).await?)
            }
            [finish, claim] => {
                if !finished.is_empty() {
                    let finish = sqlx::query(AssertSqlSafe(finish.as_str())).bind(finished);
                    finish.execute(&mut *connection).await?;
                }
                let claim = sqlx::query_as(AssertSqlSafe(claim.as_str())).bind(CLAIM);
                Ok(claim.fetch_all(connection).await?)
            }
            _ => Err("a turn has one or two statements".into()),
        }
    }

    async fn idle(&mut self) {
        self.new_tasks.notified().await;
    }
}

impl Queue for Floor {
    async fn add(&self, payload: Payload) -> Result<()> {
        self.insert(vec![to_json(&payload)?]).await
    }

    async fn add_all(&self, payloads: Vec<Payload>) -> Result<()> {
        self.insert(payloads.iter().map(to_json).collect::<Result<_>>()?).await
    }

    async fn prepare(self) -> Result<Self> {
        Ok(self)
    }

    async fn run(&self) -> Result<()> {
        let claimer = self.claimer.lock().take();
        if let Some(claimer) = claimer {
            self.shared.work(claimer);
        }
        Ok(())
    }

    async fn unfinished(&self) -> Result<u64> {
        self.shared.unfinished()
    }

    async fn close(self) -> Result<()> {
        self.shared.stop().await;
        let inserter = self.inserter.lock().take();
        drop(self.jobs);
        match inserter {
            Some(inserter) => inserter.await?,
            None => Ok(()),
        }
    }
}
