//! Connections: one for each runtime that makes calls, opened at its first call and again when it broke.
//!
//! A connection is driven by a task of the runtime that opened it. Leases are renewed from a runtime of their own, so
//! they have a connection of their own, which keeps working while handlers block the main runtime.

use std::borrow::Cow;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::runtime::{Handle, Id};
use tokio::sync::watch;

use super::error::{is_refusal, store_error, unreachable};
pub(super) use super::script::ANSWER;
use super::script::Call;
use crate::model::StoreError;

/// How long opening a connection may take.
pub(super) const CONNECT: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Connections {
    pub(super) client: Client,
    pub(super) location: String,
    open: Mutex<Open>,
    /// Signalled when a connection led to a server that no longer serves: other connections to it are useless too.
    pub(super) moved: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Open {
    connections: Vec<Connection>,
    made: u64,
}

#[derive(Clone, Debug)]
struct Connection {
    runtime: Id,
    number: u64,
    connection: MultiplexedConnection,
}

impl Connections {
    pub(super) fn new(client: Client, location: String) -> Self {
        Self { client, location, open: Mutex::default(), moved: watch::Sender::new(()) }
    }

    /// Calls a script, and loads it if the server does not know it.
    pub(super) async fn call(&self, call: &Call) -> Result<Value, CallError> {
        let mut command = Cow::Borrowed(&call.command);
        for _ in 0..2 {
            match self.send(&command, call.script.writes, call.patience).await {
                // With its source: the server knows it from then on, and the user needs no right to `SCRIPT LOAD`.
                Err(error) if is_unknown_script(&error) => command = Cow::Owned(call.with_source()),
                Err(Failure::Answer(error)) if is_damage(&error) => {
                    return Err(CallError::Damage(store_error(error, &self.location, false)));
                }
                answer => return Ok(answer.map_err(|error| self.describe(error, call.script.writes))?),
            }
        }
        Err(CallError::Other(super::error::unexpected(&self.location)))
    }

    /// Sends a command that changes nothing, or nothing that matters.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.send(command, false, ANSWER).await.map_err(|error| self.describe(error, false))
    }

    async fn send(&self, command: &Cmd, writes: bool, patience: Duration) -> Result<Value, Failure> {
        let mut is_repeated = false;
        loop {
            let mut connection = self.connection().await?;
            if patience != ANSWER {
                connection.connection.set_response_timeout(patience);
            }
            let answer = connection.connection.send_packed_command(command).await;
            let error = match answer.and_then(Value::extract_error) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let serves_not = does_not_serve(&error);
            if serves_not || is_broken(&error) {
                self.drop_connection(&connection);
            }
            if serves_not {
                self.moved.send_replace(());
            }
            // A server that does not serve has done nothing. A connection may have been cut while it was idle, so a
            // command that only reads is sent again.
            let may_repeat = serves_not || (!writes && is_broken(&error) && !error.is_timeout());
            if is_repeated || !may_repeat {
                return Err(Failure::Answer(error));
            }
            is_repeated = true;
        }
    }

    async fn connection(&self) -> Result<Connection, Failure> {
        let runtime = Handle::current().id();
        if let Some(connection) =
            self.open.lock().connections.iter().find(|connection| connection.runtime == runtime)
        {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        let made = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let connection = made.map_err(Failure::Connect)?;
        let mut open = self.open.lock();
        open.made += 1;
        let connection = Connection { runtime, number: open.made, connection };
        // If another call connected at the same time, each uses its own connection now; the last one stays for later
        // calls.
        open.connections.retain(|other| other.runtime != runtime);
        open.connections.push(connection.clone());
        Ok(connection)
    }

    fn drop_connection(&self, broken: &Connection) {
        self.open.lock().connections.retain(|connection| connection.number != broken.number);
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

/// Why a call of a script failed.
pub(super) enum CallError {
    /// The script met data that taskflow did not write.
    Damage(StoreError),
    Other(StoreError),
}

impl From<StoreError> for CallError {
    fn from(error: StoreError) -> Self {
        Self::Other(error)
    }
}

/// Whether a script failed on stored data. A missing right of the user is an `ERR` of a script too, but no damage.
fn is_damage(error: &RedisError) -> bool {
    match error.code() {
        Some("WRONGTYPE") => true,
        Some("ERR") => {
            error.detail().is_some_and(|why| why.contains("user_script") || why.contains(" script: "))
                && !is_refusal(error)
        }
        _ => false,
    }
}

/// The error of a command, and when it happened.
enum Failure {
    /// Before anything was sent.
    Connect(RedisError),
    /// After it was sent.
    Answer(RedisError),
}

fn is_unknown_script(failure: &Failure) -> bool {
    matches!(failure, Failure::Answer(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}

/// Whether the server says that it is not a running primary, or that the connection is no longer authenticated. It
/// has done nothing then, and a new connection may lead to another server, as through a proxy or a name that follows
/// the primary.
fn does_not_serve(error: &RedisError) -> bool {
    matches!(error.code(), Some("READONLY" | "MASTERDOWN" | "LOADING" | "CLUSTERDOWN" | "NOAUTH"))
}

/// Whether the connection can no longer be used.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_timeout()
        || matches!(error.kind(), ErrorKind::Parse | ErrorKind::Client)
}
