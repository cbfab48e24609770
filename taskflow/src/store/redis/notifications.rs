//! Hints that something changed: this process notifies its own listeners directly, and other processes by `PUBLISH`,
//! at most once in [`MIN_INTERVAL`]. The script that makes the change publishes if that is allowed again; otherwise a
//! publication follows soon after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::connection::{ANSWER, CONNECT, Connections};
use crate::store::{Hint, HintStream};

/// The minimum time between two publications of one process, because the server writes to every subscriber each time.
const MIN_INTERVAL: Duration = Duration::from_millis(5);

/// How often a silent connection is pinged.
const PING: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Notifications {
    connections: Arc<Connections>,
    channel: String,
    /// The message that this process publishes, by which it recognizes its own.
    sender_id: [u8; 16],
    changed: watch::Sender<()>,
    published: Mutex<Published>,
    /// The log already says that this user may not subscribe.
    is_refused: AtomicBool,
}

#[derive(Debug, Default)]
struct Published {
    at: Option<Instant>,
    /// A publication will follow.
    owed: bool,
}

impl Notifications {
    pub(super) fn new(connections: Arc<Connections>, channel: String, sender_id: [u8; 16]) -> Self {
        Self {
            connections,
            channel,
            sender_id,
            changed: watch::Sender::new(()),
            published: Mutex::default(),
            is_refused: AtomicBool::new(false),
        }
    }

    /// The message that a script publishes when it is about to change something. It is empty if this process
    /// published just now; a publication then follows later.
    pub(super) fn stamp(self: &Arc<Self>) -> &[u8] {
        let mut published = self.published.lock();
        let now = Instant::now();
        if published.owed {
            return &[];
        }
        match published.at.map(|at| now.duration_since(at)) {
            Some(since) if since < MIN_INTERVAL => {
                published.owed = true;
                let notifications = Arc::clone(self);
                tokio::spawn(async move { notifications.make_up(MIN_INTERVAL.saturating_sub(since)).await });
                &[]
            }
            _ => {
                published.at = Some(now);
                &self.sender_id
            }
        }
    }

    async fn make_up(&self, wait: Duration) {
        sleep(wait).await;
        {
            let mut published = self.published.lock();
            published.owed = false;
            published.at = Some(Instant::now());
        }
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&self.channel).arg(&self.sender_id[..]);
        // A failure is ignored, because the others poll as well.
        let _ = self.connections.ask(&publish).await;
    }

    /// The message that this process publishes.
    pub(super) fn sender_id(&self) -> &[u8] {
        &self.sender_id
    }

    /// Notifies the listeners of this process.
    pub(super) fn changed(&self) {
        self.changed.send_replace(());
    }

    pub(super) fn listen(self: &Arc<Self>) -> HintStream {
        let (own, moved) = (self.changed.subscribe(), self.connections.moved.subscribe());
        let subscription = Subscription { notifications: Arc::clone(self), own, moved, others: None };
        Box::pin(futures_util::stream::unfold(subscription, |mut subscription| async move {
            subscription.receive().await;
            Some((Hint::Changed, subscription))
        }))
    }
}

/// Receives the hints of this process and of the others.
struct Subscription {
    notifications: Arc<Notifications>,
    own: watch::Receiver<()>,
    /// Signalled when the subscription may lead to a server that no longer serves.
    moved: watch::Receiver<()>,
    others: Option<(PubSubSink, PubSubStream)>,
}

impl Subscription {
    async fn receive(&mut self) {
        let Self { notifications, own, moved, others } = self;
        tokio::select! {
            changed = own.changed() => {
                if changed.is_err() {
                    // This process will change nothing any more; the stream never ends.
                    std::future::pending::<()>().await;
                }
            }
            () = receive_from_others(notifications, moved, others) => {}
        }
    }
}

/// Returns when another process published, or may have.
async fn receive_from_others(
    notifications: &Notifications,
    moved: &mut watch::Receiver<()>,
    others: &mut Option<(PubSubSink, PubSubStream)>,
) {
    loop {
        let Some((sink, messages)) = others else {
            match subscribe(notifications).await {
                Some(subscribed) => {
                    *others = Some(subscribed);
                    // Something may have been published before this subscription.
                    return;
                }
                None => {
                    sleep(Duration::from_secs(1)).await;
                    continue;
                }
            }
        };
        let heard = tokio::select! {
            heard = timeout(PING, messages.next()) => heard,
            _ = moved.changed() => Ok(None),
        };
        match heard {
            Ok(Some(message)) if message.get_payload_bytes() == notifications.sender_id => {}
            Ok(Some(_)) => return,
            Ok(None) => *others = None,
            Err(_) => {
                let answer = timeout(ANSWER, sink.ping::<redis::Value>()).await;
                if !matches!(answer, Ok(Ok(_))) {
                    *others = None;
                }
            }
        }
    }
}

async fn subscribe(notifications: &Notifications) -> Option<(PubSubSink, PubSubStream)> {
    let subscribed = async {
        let mut subscription = notifications.connections.client.get_async_pubsub().await?;
        subscription.subscribe(&notifications.channel).await?;
        Ok::<_, redis::RedisError>(subscription.split())
    };
    match timeout(CONNECT, subscribed).await {
        Ok(Ok(subscribed)) => Some(subscribed),
        Ok(Err(error)) => {
            if super::error::is_refusal(&error) && !notifications.is_refused.swap(true, Ordering::Relaxed) {
                let error = super::error::store_error(error, &notifications.connections.location, false);
                tracing::warn!(%error, "changes of other processes are noticed only by polling");
            } else {
                tracing::debug!(%error, "no hints from Redis; polling goes on");
            }
            None
        }
        Err(_) => None,
    }
}
