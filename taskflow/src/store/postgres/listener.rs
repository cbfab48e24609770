//! Receives the hints of other processes, by `LISTEN` on a connection of its own.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::task::JoinHandle;

use super::executor::Shared;
use crate::store::HintStream;
use crate::store::hint_set::HintSet;

/// A connection that has been silent for this long is pinged.
const SILENCE: Duration = Duration::from_secs(5);

/// A stream of hints from this process and the others, for as long as the store exists.
pub(super) fn listen(shared: &Arc<Shared>) -> HintStream {
    let heard = shared.hints.heard.subscribe();
    let mut listener = shared.hints.listener.lock();
    if shared.listens && listener.as_ref().is_none_or(JoinHandle::is_finished) {
        let closed = shared.hints.closed.clone();
        let hear = hear(Arc::downgrade(shared));
        *listener = Some(tokio::spawn(async move {
            closed.run_until_cancelled(hear).await;
        }));
    }
    let changes = stream::unfold(heard, |mut heard| async move { Some((heard.receive().await, heard)) });
    Box::pin(changes.flat_map(|changes| stream::iter(changes.hints())))
}

/// Listens for as long as the store exists, and connects again whenever a connection is lost.
async fn hear(shared: Weak<Shared>) {
    let mut wait = Duration::from_millis(100);
    while let Some(strong) = shared.upgrade() {
        let options = strong.connections.options().clone();
        let channel = format!("{}hints", strong.sql.prefix());
        drop(strong);
        let pool =
            PgPoolOptions::new().max_connections(1).acquire_timeout(SILENCE).connect_lazy_with(options);
        let started = tokio::time::Instant::now();
        if let Err(error) = hear_over(&shared, &pool, &channel).await {
            tracing::debug!("hints of the store are not received for a while: {error}");
        }
        pool.close().await;
        if started.elapsed() > SILENCE {
            wait = Duration::from_millis(100);
        }
        tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}

/// Listens over one connection until it is lost.
async fn hear_over(shared: &Weak<Shared>, pool: &sqlx::PgPool, channel: &str) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    if let Some(shared) = shared.upgrade() {
        // Hints sent before this connection listened were missed.
        shared.hints.heard.send(HintSet::ALL);
    }
    let generation = || shared.upgrade().map(|shared| shared.connections.generation());
    let opened_in = generation();
    loop {
        match tokio::time::timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => {
                let Some(shared) = shared.upgrade() else { return Ok(()) };
                shared.hints.hear(notification.payload());
            }
            Ok(Ok(None)) => return Err(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())),
            Ok(Err(error)) => return Err(error),
            // If other connections led to a broken server or to a standby, this one may do so too.
            Err(_) if generation() != opened_in => return Ok(()),
            Err(_) => {
                let mut rows = sqlx::raw_sql("SELECT 1").fetch(&mut listener);
                match tokio::time::timeout(SILENCE, rows.next()).await {
                    Ok(Some(Ok(_))) => {}
                    Ok(Some(Err(error))) => return Err(error),
                    Ok(None) | Err(_) => return Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
                }
            }
        }
    }
}
