//! Hints: heard by `LISTEN` on a connection of its own, given by `NOTIFY` after the commit.
//!
//! PostgreSQL makes transactions that notify commit one after the other, so a `NOTIFY` inside each write would cost four
//! times the writes' time. It goes out by itself instead, one for all writes since the last. It says who sent it, so that
//! a process is not woken by itself.

use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::calls::{Kind, Shared};
use crate::store::{Hint, HintStream};

/// Between two notifications, at least.
const PAUSE: Duration = Duration::from_millis(5);
/// A connection on which nothing was heard for so long is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(5);

/// Without a flush to the disk: it has nothing to keep.
const NOTIFY: &str = "
SELECT pg_notify('taskflow_hints', $1), set_config('synchronous_commit', 'off', true)";

#[derive(Debug)]
pub(super) struct Hints {
    /// Who sends: this store value, of which a process may have several.
    sender: String,
    heard: watch::Sender<()>,
    outbox: Mutex<Outbox>,
    ear: Mutex<Option<JoinHandle<()>>>,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Outbox {
    is_full: bool,
    is_sending: bool,
}

impl Hints {
    pub(super) fn new() -> Self {
        Self {
            sender: crate::model::TaskId::new().to_string(),
            heard: watch::channel(()).0,
            outbox: Mutex::default(),
            ear: Mutex::default(),
            closed: CancellationToken::new(),
        }
    }

    /// Tells everybody, here and elsewhere, that something changed.
    pub(super) fn tell(shared: &Arc<Shared>) {
        let hints = &shared.hints;
        hints.heard.send_replace(());
        let mut outbox = hints.outbox.lock();
        outbox.is_full = true;
        if !std::mem::replace(&mut outbox.is_sending, true) {
            tokio::spawn(send(Arc::downgrade(shared)));
        }
    }

    pub(super) fn listen(shared: &Arc<Shared>) -> HintStream {
        let heard = shared.hints.heard.subscribe();
        let mut ear = shared.hints.ear.lock();
        if shared.listens && ear.as_ref().is_none_or(JoinHandle::is_finished) {
            let closed = shared.hints.closed.clone();
            let hear = hear(Arc::downgrade(shared));
            *ear = Some(tokio::spawn(async move {
                closed.run_until_cancelled(hear).await;
            }));
        }
        Box::pin(futures_util::stream::unfold(heard, |mut heard| async move {
            if heard.changed().await.is_err() {
                // The store is closed: nothing will change any more.
                std::future::pending::<()>().await;
            }
            Some((Hint::Changed, heard))
        }))
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

/// Sends what there is to send until there is nothing. Errors are nobody's business: others poll as well.
async fn send(shared: Weak<Shared>) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        {
            let mut outbox = shared.hints.outbox.lock();
            if !outbox.is_full {
                outbox.is_sending = false;
                return;
            }
            outbox.is_full = false;
        }
        let sender = shared.hints.sender.clone();
        let sent = shared.call(Kind::Read, move |session| {
            let sender = sender.clone();
            Box::pin(async move { session.execute(session.query(NOTIFY).bind(sender)).await })
        });
        let _ = sent.await;
        drop(shared);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Listens for as long as the store is there, over as many connections as that takes.
async fn hear(shared: Weak<Shared>) {
    let mut wait = Duration::from_millis(100);
    while let Some(strong) = shared.upgrade() {
        let options = strong.connections.options().clone();
        let channel = format!("{}hints", strong.sql.prefix());
        let sender = strong.hints.sender.clone();
        drop(strong);
        let pool =
            PgPoolOptions::new().max_connections(1).acquire_timeout(SILENCE).connect_lazy_with(options);
        let started = tokio::time::Instant::now();
        if let Err(error) = hear_over(&shared, &pool, &channel, &sender).await {
            tracing::debug!("hints of the store are not heard for a while: {error}");
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
async fn hear_over(
    shared: &Weak<Shared>,
    pool: &sqlx::PgPool,
    channel: &str,
    sender: &str,
) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    let tell = || match shared.upgrade() {
        Some(shared) => {
            shared.hints.heard.send_replace(());
            true
        }
        None => false,
    };
    // What came before has not been heard.
    tell();
    let generation = || shared.upgrade().map(|shared| shared.connections.generation());
    let opened_in = generation();
    loop {
        match tokio::time::timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(notification))) if notification.payload() == sender => {}
            Ok(Ok(Some(_))) => {
                if !tell() {
                    return Ok(());
                }
            }
            Ok(Ok(None)) => return Err(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())),
            Ok(Err(error)) => return Err(error),
            // Where other connections led nowhere, or to a standby, this one may do so too.
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
