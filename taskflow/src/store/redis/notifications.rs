//! Hints that something changed: this process notifies its own listeners directly, and other processes by `PUBLISH`,
//! at most once in [`MIN_INTERVAL`]. The script that makes the change publishes if that is allowed again; otherwise a
//! publication follows soon after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::connection::{ANSWER, CONNECT, Connections};
use crate::store::HintStream;
use crate::store::hint_set::{HintReceiver, HintSender, HintSet};

/// The minimum time between two publications of one process, because the server writes to every subscriber each time.
const MIN_INTERVAL: Duration = Duration::from_millis(5);

/// How often a silent connection is pinged.
const PING: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Notifications {
    connections: Arc<Connections>,
    channel: String,
    /// The messages that this process publishes, one for each set of changes. All begin with the id of the sender, by which
    /// this process recognizes its own messages.
    messages: [[u8; 17]; 8],
    changed: HintSender,
    published: Mutex<Published>,
    /// The log already says that this user may not subscribe.
    is_refused: AtomicBool,
}

#[derive(Debug, Default)]
struct Published {
    at: Option<Instant>,
    /// The changes that a publication will announce later.
    owed: HintSet,
}

impl Notifications {
    pub(super) fn new(connections: Arc<Connections>, channel: String, sender_id: [u8; 16]) -> Self {
        Self {
            connections,
            channel,
            messages: HintSet::every().map(|changes| message(sender_id, changes)),
            changed: HintSender::new(),
            published: Mutex::default(),
            is_refused: AtomicBool::new(false),
        }
    }

    /// The message that a script publishes when it is about to change something. It is empty if this process
    /// published just now; a publication then follows later.
    pub(super) fn stamp(self: &Arc<Self>, changes: HintSet) -> &[u8] {
        if !changes.any() {
            return &[];
        }
        let mut published = self.published.lock();
        let now = Instant::now();
        if published.owed.any() {
            published.owed |= changes;
            return &[];
        }
        match published.at.map(|at| now.duration_since(at)) {
            Some(since) if since < MIN_INTERVAL => {
                published.owed = changes;
                let owing = Owing(Some(Arc::clone(self)));
                tokio::spawn(owing.make_up(MIN_INTERVAL.saturating_sub(since)));
                &[]
            }
            _ => {
                published.at = Some(now);
                self.message(changes)
            }
        }
    }

    /// The message that announces these changes.
    pub(super) fn message(&self, changes: HintSet) -> &[u8] {
        &self.messages[changes.index()]
    }

    /// Tells the listeners of this process what changed.
    pub(super) fn changed(&self, changes: HintSet) {
        self.changed.send(changes);
    }

    pub(super) fn listen(self: &Arc<Self>) -> HintStream {
        let (own, moved) = (self.changed.subscribe(), self.connections.moved.subscribe());
        let subscription = Subscription { notifications: Arc::clone(self), own, moved, others: None };
        let changes = stream::unfold(subscription, |mut subscription| async move {
            Some((subscription.receive().await, subscription))
        });
        Box::pin(changes.flat_map(|changes| stream::iter(changes.hints())))
    }
}

/// A task that publishes the owed changes after a while. If its runtime ends before it has published, nothing is owed any
/// more, so that the next change is published at once.
struct Owing(Option<Arc<Notifications>>);

impl Owing {
    async fn make_up(mut self, wait: Duration) {
        sleep(wait).await;
        let Some(notifications) = self.0.take() else { return };
        let owed = {
            let mut published = notifications.published.lock();
            published.at = Some(Instant::now());
            std::mem::take(&mut published.owed)
        };
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&notifications.channel).arg(notifications.message(owed));
        // A failure is ignored, because the others poll as well.
        let _ = notifications.connections.ask(&publish).await;
    }
}

impl Drop for Owing {
    fn drop(&mut self) {
        if let Some(notifications) = &self.0 {
            notifications.published.lock().owed = HintSet::NONE;
        }
    }
}

/// The message by which a process announces changes.
fn message(sender_id: [u8; 16], changes: HintSet) -> [u8; 17] {
    let mut message = [changes.character(); 17];
    message[..16].copy_from_slice(&sender_id);
    message
}

/// Receives the hints of this process and of the others.
struct Subscription {
    notifications: Arc<Notifications>,
    own: HintReceiver,
    /// Signalled when the subscription may lead to a server that no longer serves.
    moved: watch::Receiver<()>,
    others: Option<(PubSubSink, PubSubStream)>,
}

impl Subscription {
    async fn receive(&mut self) -> HintSet {
        let Self { notifications, own, moved, others } = self;
        tokio::select! {
            changes = own.receive() => changes,
            changes = receive_from_others(notifications, moved, others) => changes,
        }
    }
}

/// The changes that another process announced, or may have announced.
async fn receive_from_others(
    notifications: &Notifications,
    moved: &mut watch::Receiver<()>,
    others: &mut Option<(PubSubSink, PubSubStream)>,
) -> HintSet {
    loop {
        let Some((sink, messages)) = others else {
            match subscribe(notifications).await {
                Some(subscribed) => {
                    *others = Some(subscribed);
                    // Something may have been published before this subscription.
                    return HintSet::ALL;
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
            Ok(Some(message)) => match message.get_payload_bytes() {
                own if own.starts_with(&notifications.messages[0][..16]) => {}
                other => return HintSet::of_character(other.last().copied()),
            },
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
