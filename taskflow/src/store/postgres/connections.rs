//! Connections: few, lent for one call each, never while a task runs.
//!
//! A connection belongs to the runtime that opened it, which drives its socket. Leases are renewed from a runtime of
//! their own, so idle connections are kept by runtime; sqlx's own pool does not tell runtimes apart, and asks the server
//! whether it is there each time, which doubles the round trips of a short call.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{Connection, PgConnection, Postgres};
use tokio::runtime::{Handle, Id};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::Fault;
use crate::model::{StoreError, StoreErrorKind};

/// How long to wait for a connection, be it a free one or a new one.
const PATIENCE: Duration = Duration::from_secs(5);
/// An idle connection that was not used for so long may be one that the server has closed: it is asked first.
const DOUBTFUL: Duration = Duration::from_secs(1);
/// An idle connection that was not used for so long is closed.
const IDLE: Duration = Duration::from_secs(600);

/// Where connections come from.
pub(super) struct Connections {
    options: PgConnectOptions,
    location: String,
    /// The application's own pool, if it gave one.
    pool: Option<PgPool>,
    permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    runtime: Id,
    since: Instant,
    connection: PgConnection,
}

/// A connection on loan. Unless [`keep`](Self::keep) is called it is closed afterwards.
pub(super) struct Loan<'c> {
    home: &'c Connections,
    /// `None` only while it is being dropped.
    connection: Option<Kind>,
    is_fit: bool,
    _permit: Option<SemaphorePermit<'c>>,
}

enum Kind {
    Own(Box<PgConnection>),
    Pooled(PoolConnection<Postgres>),
}

impl Connections {
    pub(super) fn new(options: PgConnectOptions, location: String, most: usize) -> Self {
        Self { options, location, pool: None, permits: Semaphore::new(most), idle: Mutex::default() }
    }

    pub(super) fn of_pool(pool: PgPool, location: String) -> Self {
        let options = (*pool.connect_options()).clone();
        Self { pool: Some(pool), ..Self::new(options, location, 0) }
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// A connection for one call. A *reserved* one is beside the others, so that it never waits for them.
    pub(super) async fn lend(&self, reserved: bool) -> Result<Loan<'_>, Fault> {
        if let (Some(pool), false) = (&self.pool, reserved) {
            let pooled = within(pool.acquire()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
            return Ok(self.loan(Kind::Pooled(pooled.map_err(|error| self.unreachable(error))?), None));
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
                return Ok(self.loan(Kind::Own(Box::new(idle.connection)), permit));
            }
            // Whatever ended this one has most likely ended the others.
            self.forget_idle(runtime);
        }
        let connection = self.open(PATIENCE).await?;
        Ok(self.loan(Kind::Own(Box::new(connection)), permit))
    }

    /// A new connection of our own, which the caller keeps.
    pub(super) async fn open(&self, patience: Duration) -> Result<PgConnection, Fault> {
        let opened = tokio::time::timeout(patience, PgConnection::connect_with(&self.options)).await;
        let opened = opened.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
        opened.map_err(|error| self.unreachable(error))
    }

    fn loan<'c>(&'c self, connection: Kind, permit: Option<SemaphorePermit<'c>>) -> Loan<'c> {
        Loan { home: self, connection: Some(connection), is_fit: false, _permit: permit }
    }

    fn take_idle(&self, runtime: Id) -> Option<Idle> {
        let mut idle = self.idle.lock();
        // Those of a runtime that is gone are never asked for again.
        idle.retain(|it| it.since.elapsed() < IDLE);
        let last = idle.iter().rposition(|it| it.runtime == runtime)?;
        Some(idle.remove(last))
    }

    fn forget_idle(&self, runtime: Id) {
        self.idle.lock().retain(|it| it.runtime != runtime);
    }

    fn unreachable(&self, error: sqlx::Error) -> Fault {
        let message = match &error {
            sqlx::Error::PoolTimedOut => {
                format!("no connection to {} was free for {PATIENCE:?}; allow more of them", self.location)
            }
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => {
                format!("{} cannot be reached; check that it runs and lets this machine in", self.location)
            }
            _ => return Fault::Sql(error),
        };
        Fault::Store(StoreError::with_source(StoreErrorKind::Unavailable, message, error))
    }
}

/// What comes within the patience there is.
async fn within<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, work).await.ok()
}

impl Loan<'_> {
    /// It can be lent again: it is between two transactions.
    pub(super) fn keep(mut self) {
        self.is_fit = true;
    }

    /// It is broken, and most likely the others are too.
    pub(super) fn discard(self) {
        self.home.forget_idle(Handle::current().id());
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        match self.connection.take() {
            Some(Kind::Own(connection)) if self.is_fit => {
                let runtime = Handle::current().id();
                let idle = Idle { runtime, since: Instant::now(), connection: *connection };
                self.home.idle.lock().push(idle);
            }
            // Not given back to its pool, and so closed.
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
