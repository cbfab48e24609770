//! Liveness: a subscription that ends with its process.
//!
//! An instance that shows that it lives subscribes, on a connection of its own, to a channel on which nobody publishes.
//! `PUBSUB NUMSUB` counts the subscribers. The instance also stores the `run_id` of the server, which differs at each
//! start: subscriptions do not outlive a restart, and a server that took over never had them. If the user may not run
//! these commands, liveness cannot be seen, and dead processes are noticed only when their leases end.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use redis::RedisError;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::time::{sleep, timeout};

use super::connection::{ANSWER, CONNECT};
use super::error::unreachable;
use super::executor::Shared;
use super::script;
use crate::model::{InstanceId, StoreError, StoreErrorKind};
use crate::store::liveness::{LIVENESS_GRACE, Liveness, LivenessStream, SHOW_AGAIN};
use crate::store::suspects::Seen;

/// How often a silent subscription is pinged. (If the server ends a subscription, this process notices at once.)
const PING: Duration = Duration::from_secs(5);

/// Shows that this instance lives for as long as the stream is polled.
pub(super) fn show_life(shared: &Arc<Shared>, instance: InstanceId) -> LivenessStream {
    shared.ours.lock().insert(instance);
    let keeper = Keeper { shared: Arc::clone(shared), instance, subscription: None, there_at: None };
    Box::pin(futures_util::stream::unfold(keeper, |mut keeper| async move {
        let liveness = keeper.next().await;
        Some((liveness, keeper))
    }))
}

struct Keeper {
    shared: Arc<Shared>,
    instance: InstanceId,
    subscription: Option<(PubSubSink, PubSubStream)>,
    /// When the subscription was last known to exist; `None` while this instance shows no liveness.
    there_at: Option<Instant>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.ours.lock().remove(&self.instance);
    }
}

impl Keeper {
    async fn next(&mut self) -> Liveness {
        loop {
            let liveness = match self.subscription.take() {
                Some(subscription) => self.stay(subscription).await,
                None => self.subscribe().await,
            };
            if let Some(liveness) = liveness {
                return liveness;
            }
        }
    }

    /// Listens until the subscription ends.
    async fn stay(&mut self, (mut sink, mut stream): (PubSubSink, PubSubStream)) -> Option<Liveness> {
        let mut moved = self.shared.connections.moved.subscribe();
        loop {
            let heard = tokio::select! {
                heard = timeout(PING, stream.next()) => heard,
                // The connection leads to a server that no longer serves.
                _ = moved.changed() => Ok(None),
            };
            match heard {
                // Nobody publishes on this channel.
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => {
                    let answer = timeout(ANSWER, sink.ping::<redis::Value>()).await;
                    if !matches!(answer, Ok(Ok(_))) {
                        break;
                    }
                }
            }
        }
        // A server that ends a subscription closes the connection at once. So it is taken to have existed until now.
        self.there_at = self.there_at.map(|_| Instant::now());
        self.gone()
    }

    /// Tries once to subscribe, and to store that this instance shows its liveness.
    async fn subscribe(&mut self) -> Option<Liveness> {
        let since = self.there_at.map_or(Duration::MAX, |at| at.elapsed());
        let is_urgent = since < LIVENESS_GRACE * 2;
        // An attempt without an answer must not use up the time for further attempts.
        let patience = if is_urgent { LIVENESS_GRACE / 2 } else { CONNECT };
        let asked = Instant::now();
        let error = match self.listen(patience).await {
            Ok(subscription) => match self.shared.show(self.instance, true).await {
                Ok(is_shown) => {
                    if !is_shown {
                        tracing::debug!(
                            "this process may not show that it lives; if it dies, its tasks are recovered when their leases end"
                        );
                    }
                    self.there_at = is_shown.then_some(asked);
                    self.subscription = Some(subscription);
                    return Some(Liveness::Visible);
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        tracing::debug!(%error, "this process cannot show that it lives");
        if refuses_everybody(&error) {
            // No process can have been declared dead meanwhile.
            self.there_at = self.there_at.map(|_| asked);
        } else if since >= LIVENESS_GRACE && self.there_at.is_some() && self.hide().await {
            self.there_at = None;
            return Some(Liveness::Visible);
        }
        let pause = if is_urgent { SHOW_AGAIN } else { SHOW_AGAIN * 5 };
        sleep(pause.mul_f64(0.75 + fastrand::f64() / 4.0)).await;
        self.gone()
    }

    async fn listen(&self, patience: Duration) -> Result<(PubSubSink, PubSubStream), StoreError> {
        let connections = &self.shared.connections;
        let channel = self.shared.channel_of(self.instance);
        let subscribed = async {
            let mut subscription = connections.client.get_async_pubsub().await?;
            subscription.subscribe(channel).await?;
            Ok::<_, RedisError>(subscription.split())
        };
        match timeout(patience, subscribed).await {
            Ok(subscribed) => subscribed.map_err(|error| unreachable(error, &connections.location)),
            Err(_) => Err(StoreError::new(
                StoreErrorKind::Unavailable,
                format!("`{}` did not answer for {patience:?}", connections.location),
            )),
        }
    }

    /// Withdraws the liveness of this instance, if the server still answers although the subscription fails. Then no other
    /// process declares this one dead before its leases end.
    async fn hide(&self) -> bool {
        matches!(timeout(LIVENESS_GRACE / 2, self.shared.show(self.instance, false)).await, Ok(Ok(_)))
    }

    fn gone(&self) -> Option<Liveness> {
        self.there_at.map(|since| Liveness::Gone { since })
    }
}

/// Whether the server refuses writes from everybody: it is starting up, or a replica.
fn refuses_everybody(error: &StoreError) -> bool {
    let answer = error.source().and_then(|source| source.downcast_ref::<RedisError>());
    matches!(answer.and_then(RedisError::code), Some("LOADING" | "READONLY" | "MASTERDOWN"))
}

impl Shared {
    fn channel_of(&self, instance: InstanceId) -> Vec<u8> {
        let mut channel = format!("{}alive:", self.prefix).into_bytes();
        channel.extend(instance.as_bytes());
        channel
    }

    /// Stores whether an instance shows that it lives. Answers whether it is shown.
    async fn show(&self, instance: InstanceId, is_shown: bool) -> Result<bool, StoreError> {
        let mut call = self.silent(&script::SHOW_LIFE);
        call.arg(instance.as_bytes()).arg(u8::from(is_shown));
        Ok(self.ask(&call).await?.number()? == 1)
    }

    /// Probes the liveness of the other processes when that is due, and ends the leases of those that are dead.
    pub(super) async fn end_leases_of_the_dead(&self) -> Result<(), StoreError> {
        let asked = Instant::now();
        if !self.suspects.is_due(asked) {
            return Ok(());
        }
        let call = self.silent(&script::LIVENESS);
        let mut answer = self.ask(&call).await?.list()?;
        let mut seen = Vec::with_capacity(answer.len() / 3);
        while !answer.is_empty() {
            let (instance, sign) = (answer.instance_id()?, answer.bytes()?);
            seen.push(Seen { instance, sign, is_there: answer.number()? == 1 });
        }
        let answered = Instant::now();
        {
            let ours = self.ours.lock();
            seen.retain(|seen| !ours.contains(&seen.instance));
        }
        let dead = self.suspects.note(asked, answered, seen);
        if dead.is_empty() {
            return Ok(());
        }
        let mut call = self.silent(&script::END_LEASES);
        for seen in &dead {
            call.arg(seen.instance.as_bytes()).arg(&seen.sign[..]);
        }
        let mut ended = self.ask(&call).await?.list()?;
        while !ended.is_empty() {
            let instance = ended.instance_id()?;
            self.suspects.forget(instance);
            tracing::warn!(
                %instance,
                "a process is gone, or cut off from the store; tasks that may run again start elsewhere now, the others are recovered when their leases end"
            );
        }
        Ok(())
    }
}
