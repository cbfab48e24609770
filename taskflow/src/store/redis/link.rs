//! Connections: one for each runtime that calls, made when it first does and again when it broke.
//!
//! A connection is served by a task of the runtime that made it. Leases are renewed from a runtime of their own, so
//! they have a connection of their own, which goes on while handlers block the main runtime.

use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::runtime::{Handle, Id};

use super::error::{store_error, unreachable};
use super::script::Call;
use crate::model::StoreError;

/// How long a connection may take to be made.
pub(super) const CONNECT: Duration = Duration::from_secs(3);

/// How long an answer may take: a connection that is cut half-open is noticed after it.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// Scripts may be flushed again between loading and calling one; nobody does so this often.
const LOADS: usize = 8;

#[derive(Debug)]
pub(super) struct Links {
    pub(super) client: Client,
    pub(super) location: String,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    links: Vec<Link>,
    made: u64,
}

#[derive(Clone, Debug)]
struct Link {
    runtime: Id,
    number: u64,
    connection: MultiplexedConnection,
}

impl Links {
    pub(super) fn new(client: Client, location: String) -> Self {
        Self { client, location, open: Mutex::default() }
    }

    /// Calls a script, loading it where the server does not know it.
    pub(super) async fn call(&self, call: &Call) -> Result<Value, StoreError> {
        for _ in 0..LOADS {
            match self.send(&call.command, call.script.writes).await {
                Err(error) if is_unknown_script(&error) => {
                    let mut load = redis::cmd("SCRIPT");
                    load.arg("LOAD").arg(call.script.source());
                    self.send(&load, false).await.map_err(|error| self.describe(error, false))?;
                }
                answer => return answer.map_err(|error| self.describe(error, call.script.writes)),
            }
        }
        Err(StoreError::new(
            crate::model::StoreErrorKind::Unavailable,
            format!("`{}` forgets scripts as fast as they are loaded; end what flushes them", self.location),
        ))
    }

    /// Sends a command that changes nothing, or nothing that matters.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.send(command, false).await.map_err(|error| self.describe(error, false))
    }

    async fn send(&self, command: &Cmd, writes: bool) -> Result<Value, Failure> {
        let mut link = self.link().await?;
        let answer = match link.connection.send_packed_command(command).await {
            // The connection may have been cut while nobody used it. What only reads is simply asked again.
            Err(error) if !writes && is_broken(&error) && !error.is_timeout() => {
                self.drop_link(&link);
                link = self.link().await?;
                link.connection.send_packed_command(command).await
            }
            answer => answer,
        };
        let answer = answer.and_then(Value::extract_error);
        answer.map_err(|error| {
            if is_broken(&error) {
                self.drop_link(&link);
            }
            Failure::Answer(error)
        })
    }

    async fn link(&self) -> Result<Link, Failure> {
        let runtime = Handle::current().id();
        if let Some(link) = self.open.lock().links.iter().find(|link| link.runtime == runtime) {
            return Ok(link.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        let made = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let connection = made.map_err(Failure::Connect)?;
        let mut open = self.open.lock();
        open.made += 1;
        let link = Link { runtime, number: open.made, connection };
        // Who connected at the same time goes on with its own for this call; the last one stays.
        open.links.retain(|other| other.runtime != runtime);
        open.links.push(link.clone());
        Ok(link)
    }

    fn drop_link(&self, broken: &Link) {
        self.open.lock().links.retain(|link| link.number != broken.number);
    }

    fn describe(&self, failure: Failure, writes: bool) -> StoreError {
        match failure {
            Failure::Connect(error) => unreachable(error, &self.location),
            Failure::Answer(error) => {
                let lost = is_broken(&error);
                store_error(error, &self.location, writes && lost)
            }
        }
    }
}

/// What went wrong, and when.
enum Failure {
    /// Before anything was sent.
    Connect(RedisError),
    /// After.
    Answer(RedisError),
}

fn is_unknown_script(failure: &Failure) -> bool {
    matches!(failure, Failure::Answer(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}

/// Whether the connection is of no more use.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_timeout()
        || matches!(error.kind(), ErrorKind::Parse | ErrorKind::Client)
}
