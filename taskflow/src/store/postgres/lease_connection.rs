//! The lease connection of an instance that runs tasks. It is separate from all others and driven by the thread that
//! renews leases. It renews the leases, and its session holds the lock that [shows](super::liveness) that the process
//! lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::{Connection, PgConnection};
use tokio::sync::mpsc;

use super::error::Fault;
use super::executor::Shared;
use super::lease;
use super::lease_connections::{Renewing, Request};
use super::liveness;
use super::session::Session;
use crate::model::{InstanceId, StoreError};
use crate::store::liveness::{LIVENESS_GRACE, Liveness, LivenessStream, SHOW_AGAIN};

/// How often the connection is pinged: when it is lost, its lock is too.
const PING: Duration = Duration::from_millis(200);

/// How long a ping may take before the connection counts as half open.
const PATIENCE: Duration = Duration::from_secs(8);

/// How often a renewal that lost a race is repeated.
const RACES: u32 = 20;

/// Keeps a lease connection open for as long as the stream is polled.
pub(super) fn show_life(shared: &Arc<Shared>, instance: InstanceId) -> LivenessStream {
    if !shared.listens {
        // Behind a pooler no session stays ours for longer than a transaction.
        return Box::pin(futures_util::stream::pending());
    }
    let (sender, requests) = mpsc::unbounded_channel();
    shared.lease_connections.0.lock().insert(instance, sender);
    let shared = Arc::clone(shared);
    let lease_connection =
        LeaseConnection { shared, instance, requests, waiting: Vec::new(), connection: None, there_at: None };
    Box::pin(futures_util::stream::unfold(lease_connection, |mut lease_connection| async move {
        let liveness = lease_connection.next().await;
        Some((liveness, lease_connection))
    }))
}

struct LeaseConnection {
    shared: Arc<Shared>,
    instance: InstanceId,
    requests: mpsc::UnboundedReceiver<Request>,
    /// Requests that came while there was no connection.
    waiting: Vec<Request>,
    connection: Option<PgConnection>,
    /// When the liveness lock was last known to be held, if it ever was.
    there_at: Option<Instant>,
}

impl Drop for LeaseConnection {
    fn drop(&mut self) {
        self.shared.lease_connections.0.lock().remove(&self.instance);
    }
}

impl LeaseConnection {
    async fn next(&mut self) -> Liveness {
        loop {
            if let Some(sign) = match self.connection.take() {
                Some(connection) => self.stay(connection).await,
                None => self.connect().await,
            } {
                return sign;
            }
        }
    }

    /// Carries out one request on the connection, or a ping, and keeps the connection unless it broke.
    async fn stay(&mut self, mut connection: PgConnection) -> Option<Liveness> {
        let request = match self.waiting.pop() {
            Some(request) => Some(request),
            None => match tokio::time::timeout(PING, self.requests.recv()).await {
                Ok(Some(request)) => Some(request),
                // Another lease connection of this instance has taken over.
                Ok(None) => std::future::pending().await,
                Err(_) => None,
            },
        };
        let asked = Instant::now();
        let is_fit = match request {
            Some(Request::Renew(renewing)) => self.renew(&mut connection, renewing).await,
            Some(Request::ShowAgain) => {
                let shown = liveness::show(&self.shared, &mut connection, self.instance).await;
                self.there_at = self.there_at.filter(|_| !matches!(shown, Ok(false)));
                is_fit(&shown)
            }
            None => is_fit(&ping(&mut connection).await),
        };
        if !is_fit {
            return self.gone();
        }
        self.there_at = self.there_at.map(|_| asked);
        self.connection = Some(connection);
        None
    }

    /// Renews leases and replies to the caller. Answers whether the connection can be used further. A renewal that
    /// broke the connection is repeated once, on the next one, unless the server was silent.
    async fn renew(&mut self, connection: &mut PgConnection, mut renewing: Renewing) -> bool {
        let mut races = 0;
        let answer = loop {
            let mut session = Session::new(connection, &self.shared.sql, &self.shared.starts, true);
            match lease::renew(&mut session, &renewing.renewal).await {
                Err(fault) if fault.is_race() && races < RACES => races += 1,
                answer => break answer,
            }
        };
        let is_fit = is_fit(&answer);
        let is_silent = answer.as_ref().is_err_and(Fault::is_silence);
        if !is_fit && !is_silent && !renewing.is_repeated {
            renewing.is_repeated = true;
            self.waiting.push(Request::Renew(renewing));
            return false;
        }
        // The caller may have stopped waiting.
        let _ = renewing.reply.send(answer.map_err(|fault| fault.into_error(&self.shared.location, true)));
        is_fit
    }

    /// Tries once to connect and to show that this instance lives. Requests that come meanwhile wait for the result.
    async fn connect(&mut self) -> Option<Liveness> {
        let since = self.there_at.map_or(Duration::MAX, |at| at.elapsed());
        let is_urgent = since < LIVENESS_GRACE * 2;
        // A connection attempt without an answer must not use up the time for further attempts.
        let patience = if is_urgent { LIVENESS_GRACE / 2 } else { PATIENCE };
        let (shared, instance) = (Arc::clone(&self.shared), self.instance);
        let attempt: BoxFuture<'static, Result<(PgConnection, bool), Fault>> = async move {
            let mut connection = shared.connections.open(patience).await?;
            let is_shown = liveness::show(&shared, &mut connection, instance).await?;
            Ok((connection, is_shown))
        }
        .boxed();
        let asked = Instant::now();
        match self.while_asked(attempt).await {
            Ok((connection, is_shown)) => {
                if !is_shown {
                    tracing::debug!("this process cannot show that it lives; others wait for its leases");
                }
                self.there_at = is_shown.then_some(asked);
                self.connection = Some(connection);
                Some(Liveness::Visible)
            }
            Err(fault) => {
                // No process can have been declared dead meanwhile.
                if fault.refuses_everybody()
                    && let Some(there_at) = &mut self.there_at
                {
                    *there_at = asked;
                }
                self.refuse_waiting(fault);
                let pause = if is_urgent { SHOW_AGAIN } else { SHOW_AGAIN * 5 };
                let pause = pause.mul_f64(0.75 + fastrand::f64() / 4.0);
                self.while_asked(tokio::time::sleep(pause).boxed()).await;
                self.gone()
            }
        }
    }

    /// What the stream reports without a connection.
    fn gone(&self) -> Option<Liveness> {
        self.there_at.map(|since| Liveness::Gone { since })
    }

    /// Does the work, and collects requests meanwhile.
    async fn while_asked<T>(&mut self, mut work: BoxFuture<'static, T>) -> T {
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(request) = self.requests.recv() => self.waiting.push(request),
            }
        }
    }

    /// Tells the waiting callers why there is no connection.
    fn refuse_waiting(&mut self, fault: Fault) {
        let error = fault.into_error(&self.shared.location, false);
        for request in self.waiting.drain(..) {
            if let Request::Renew(renewing) = request {
                let _ = renewing.reply.send(Err(StoreError::new(error.kind(), error.to_string())));
            }
        }
    }
}

/// Whether the connection can be used further.
fn is_fit<T>(done: &Result<T, Fault>) -> bool {
    done.as_ref().map_or_else(|fault| !fault.ends_connection(), |_| true)
}

async fn ping(connection: &mut PgConnection) -> Result<(), Fault> {
    match tokio::time::timeout(PATIENCE, connection.ping()).await {
        Ok(answer) => answer.map_err(Fault::Sql),
        Err(_) => Err(Fault::Silent(PATIENCE)),
    }
}
