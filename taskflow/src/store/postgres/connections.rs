//! Connections: few, borrowed for one call each, never held while a task runs.
//!
//! A connection belongs to the runtime that opened it, which drives its socket. Leases are renewed from a runtime of
//! their own, so idle connections are kept by runtime. sqlx's own pool does not distinguish runtimes, and it pings
//! the server on each acquire, which doubles the round trips of a short call.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{Connection, PgConnection, Postgres};
use tokio::runtime::{Handle, Id};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::Fault;
use crate::model::{StoreError, StoreErrorKind};

/// How long to wait for a connection, whether a free one or a new one.
const PATIENCE: Duration = Duration::from_secs(5);
/// The server may have closed an idle connection that was not used for this long: it is pinged before it is lent.
const DOUBTFUL: Duration = Duration::from_secs(1);
/// An idle connection that was not used for this long is closed when the next one is borrowed.
const IDLE: Duration = Duration::from_secs(600);

/// Where connections come from.
pub(super) struct Connections {
    options: PgConnectOptions,
    location: String,
    /// The application's own pool, if it passed one.
    pool: Option<PgPool>,
    permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
    /// Grows when a connection turns out to be broken: connections opened before are most likely broken too.
    generation: AtomicU64,
}

struct Idle {
    runtime: Id,
    generation: u64,
    since: Instant,
    connection: PgConnection,
}

/// A borrowed connection. It is closed afterwards unless [`keep`](Self::keep) is called.
pub(super) struct Loan<'c> {
    home: &'c Connections,
    /// `None` only while it is being dropped.
    connection: Option<Kind>,
    is_fit: bool,
    generation: u64,
    _permit: Option<SemaphorePermit<'c>>,
}

enum Kind {
    Own(Box<PgConnection>),
    Pooled(PoolConnection<Postgres>),
}

impl Connections {
    pub(super) fn new(options: PgConnectOptions, location: String, most: usize) -> Self {
        Self {
            options,
            location,
            pool: None,
            permits: Semaphore::new(most),
            idle: Mutex::default(),
            generation: AtomicU64::new(0),
        }
    }

    pub(super) fn of_pool(pool: PgPool, location: String, listens: bool) -> Self {
        let mut options = (*pool.connect_options()).clone();
        if !listens {
            options = options.statement_cache_capacity(0).extra_float_digits(None);
        }
        Self { pool: Some(pool), ..Self::new(options, location, 0) }
    }

    /// A number that grows when connections turned out to be broken.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How often to repeat a call that was [refused](Fault::is_refusal), each time on another connection.
    pub(super) fn repeats(&self) -> u32 {
        self.pool.as_ref().map_or(2, |pool| pool.options().get_max_connections().saturating_add(1).min(100))
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// A connection for one call. A *reserved* one is outside the limit and outside the application's pool, so that it
    /// never waits for others.
    pub(super) async fn lend(&self, reserved: bool) -> Result<Loan<'_>, Fault> {
        if let (Some(pool), false) = (&self.pool, reserved) {
            let generation = self.generation();
            let pooled = within(pool.acquire()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
            let pooled = pooled.map_err(|error| self.unreachable(error))?;
            return Ok(self.loan(Kind::Pooled(pooled), generation, None));
        }
        let permit = match reserved {
            true => None,
            false => match within(self.permits.acquire()).await {
                Some(permit) => permit.ok(),
                None => return Err(self.unreachable(sqlx::Error::PoolTimedOut)),
            },
        };
        let runtime = Handle::current().id();
        while let Some(mut idle) = self.take_idle(runtime) {
            let is_fit = idle.since.elapsed() < DOUBTFUL
                || matches!(within(idle.connection.ping()).await, Some(Ok(())));
            if is_fit {
                return Ok(self.loan(Kind::Own(Box::new(idle.connection)), idle.generation, permit));
            }
            // The failure that broke this connection has most likely broken the others too.
            self.outdate(idle.generation);
        }
        let generation = self.generation();
        let connection = self.open(PATIENCE).await?;
        Ok(self.loan(Kind::Own(Box::new(connection)), generation, permit))
    }

    /// Opens a new connection of our own, which the caller keeps.
    pub(super) async fn open(&self, patience: Duration) -> Result<PgConnection, Fault> {
        let opened = tokio::time::timeout(patience, PgConnection::connect_with(&self.options)).await;
        let opened = opened.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
        opened.map_err(|error| self.unreachable(error))
    }

    fn loan<'c>(
        &'c self,
        connection: Kind,
        generation: u64,
        permit: Option<SemaphorePermit<'c>>,
    ) -> Loan<'c> {
        Loan { home: self, connection: Some(connection), is_fit: false, generation, _permit: permit }
    }

    fn take_idle(&self, runtime: Id) -> Option<Idle> {
        let mut idle = self.idle.lock();
        // Nobody asks again for the connections of a runtime that has ended; they are closed when they have been idle
        // too long.
        let generation = self.generation();
        idle.retain(|it| it.since.elapsed() < IDLE && it.generation >= generation);
        let last = idle.iter().rposition(|it| it.runtime == runtime)?;
        Some(idle.remove(last))
    }

    /// Stops lending connections of this generation.
    fn outdate(&self, generation: u64) {
        let _ =
            self.generation.compare_exchange(generation, generation + 1, Ordering::AcqRel, Ordering::Acquire);
    }

    fn unreachable(&self, error: sqlx::Error) -> Fault {
        let message = match &error {
            sqlx::Error::PoolTimedOut => {
                format!(
                    "no connection to {} was free for {PATIENCE:?}; allow more connections, or check that the server answers",
                    self.location
                )
            }
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => {
                format!(
                    "{} cannot be reached; check that it runs and accepts connections from here",
                    self.location
                )
            }
            _ => return Fault::Sql(error),
        };
        Fault::Store(StoreError::with_source(StoreErrorKind::Unavailable, message, error))
    }
}

/// The result, if it comes within [`PATIENCE`].
async fn within<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, work).await.ok()
}

impl Loan<'_> {
    /// Marks the connection as reusable: it is between two transactions.
    pub(super) fn keep(mut self) {
        self.is_fit = true;
    }

    /// Drops the connection as broken. The others of its generation most likely are too, so none of them is lent
    /// again.
    pub(super) fn discard(self) {
        self.home.outdate(self.generation);
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        match self.connection.take() {
            Some(Kind::Own(connection)) if self.is_fit => {
                let runtime = Handle::current().id();
                let (since, generation) = (Instant::now(), self.generation);
                self.home.idle.lock().push(Idle { runtime, generation, since, connection: *connection });
            }
            // Detached from its pool instead of returned, the connection is closed.
            Some(Kind::Pooled(pooled)) if !self.is_fit => drop(pooled.detach()),
            Some(_) | None => {}
        }
    }
}

impl Deref for Loan<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self.connection.as_ref().expect("it is taken only by drop") {
            Kind::Own(connection) => connection,
            Kind::Pooled(connection) => connection,
        }
    }
}

impl DerefMut for Loan<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self.connection.as_mut().expect("it is taken only by drop") {
            Kind::Own(connection) => connection,
            Kind::Pooled(connection) => connection,
        }
    }
}
