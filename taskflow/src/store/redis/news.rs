//! Hints: what this process changed is told to its own listeners here, and to other processes by `PUBLISH`, at most
//! once in [`QUIET`], in the script that changes it where that is allowed again and soon after it otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::link::{ANSWER, CONNECT, Links};
use crate::store::{Hint, HintStream};

/// Between two publications of one process: every subscriber is written to each time.
const QUIET: Duration = Duration::from_millis(5);

/// How often a connection on which nothing is heard is asked whether it is still there.
const PING: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct News {
    links: Arc<Links>,
    channel: String,
    /// What this process publishes, so that it knows its own voice.
    voice: [u8; 16],
    changed: watch::Sender<()>,
    published: Mutex<Published>,
    /// It was said that this user may not subscribe.
    is_refused: AtomicBool,
}

#[derive(Debug, Default)]
struct Published {
    at: Option<Instant>,
    /// A publication will follow.
    owed: bool,
}

impl News {
    pub(super) fn new(links: Arc<Links>, channel: String, voice: [u8; 16]) -> Self {
        Self {
            links,
            channel,
            voice,
            changed: watch::Sender::new(()),
            published: Mutex::default(),
            is_refused: AtomicBool::new(false),
        }
    }

    /// What a script that is about to change something publishes: nothing if something was published just now; then
    /// that is made up for.
    pub(super) fn stamp(self: &Arc<Self>) -> &[u8] {
        let mut published = self.published.lock();
        let now = Instant::now();
        if published.owed {
            return &[];
        }
        match published.at.map(|at| now.duration_since(at)) {
            Some(since) if since < QUIET => {
                published.owed = true;
                let news = Arc::clone(self);
                tokio::spawn(async move { news.make_up(QUIET.saturating_sub(since)).await });
                &[]
            }
            _ => {
                published.at = Some(now);
                &self.voice
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
        publish.arg(&self.channel).arg(&self.voice[..]);
        // Others poll as well.
        let _ = self.links.ask(&publish).await;
    }

    /// What this process publishes.
    pub(super) fn voice(&self) -> &[u8] {
        &self.voice
    }

    /// Tells the listeners of this process.
    pub(super) fn changed(&self) {
        self.changed.send_replace(());
    }

    pub(super) fn listen(self: &Arc<Self>) -> HintStream {
        let (own, moved) = (self.changed.subscribe(), self.links.moved.subscribe());
        let ears = Ears { news: Arc::clone(self), own, moved, others: None };
        Box::pin(futures_util::stream::unfold(ears, |mut ears| async move {
            ears.hear().await;
            Some((Hint::Changed, ears))
        }))
    }
}

/// Hears this process and the others.
struct Ears {
    news: Arc<News>,
    own: watch::Receiver<()>,
    /// The subscription may lead to a server that no longer serves.
    moved: watch::Receiver<()>,
    others: Option<(PubSubSink, PubSubStream)>,
}

impl Ears {
    async fn hear(&mut self) {
        let Self { news, own, moved, others } = self;
        tokio::select! {
            changed = own.changed() => {
                if changed.is_err() {
                    // There will be no change of our own any more; the stream never ends.
                    std::future::pending::<()>().await;
                }
            }
            () = hear_others(news, moved, others) => {}
        }
    }
}

/// Returns when another process said something, or may have.
async fn hear_others(
    news: &News,
    moved: &mut watch::Receiver<()>,
    others: &mut Option<(PubSubSink, PubSubStream)>,
) {
    loop {
        let Some((sink, messages)) = others else {
            match subscribe(news).await {
                Some(subscribed) => {
                    *others = Some(subscribed);
                    // Something may have been said while nobody listened.
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
            Ok(Some(message)) if message.get_payload_bytes() == news.voice => {}
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

async fn subscribe(news: &News) -> Option<(PubSubSink, PubSubStream)> {
    let subscribed = async {
        let mut subscription = news.links.client.get_async_pubsub().await?;
        subscription.subscribe(&news.channel).await?;
        Ok::<_, redis::RedisError>(subscription.split())
    };
    match timeout(CONNECT, subscribed).await {
        Ok(Ok(subscribed)) => Some(subscribed),
        Ok(Err(error)) => {
            if super::error::is_refusal(&error) && !news.is_refused.swap(true, Ordering::Relaxed) {
                let error = super::error::store_error(error, &news.links.location, false);
                tracing::warn!(%error, "what other processes change is noticed only by polling");
            } else {
                tracing::debug!(%error, "no hints from Redis; the polls go on");
            }
            None
        }
        Err(_) => None,
    }
}
