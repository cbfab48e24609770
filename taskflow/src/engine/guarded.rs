//! Wraps a custom store, so that a panic in it becomes an error of the call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;

use super::panics::{self, caught};
use crate::model::{InstanceId, StoreError, StoreErrorKind};
use crate::store::{
    Capabilities, HintStream, Immediate, LivenessStream, Store, StoreCall, StoreFuture, StoreLayer,
};

/// Wraps a custom store for the engine. The built-in stores are not wrapped: all their work is done in their futures,
/// where [`Core::call`](super::core::Core::call) catches a panic.
pub(crate) fn guarded(store: Arc<dyn Store>) -> Arc<dyn Store> {
    if is_ours(&*store) { store } else { Arc::new(Guarded(store)) }
}

/// Awaits the store's answer. A panic becomes an error after which it is unknown whether the call took effect.
pub(super) async fn answered<T>(call: StoreFuture<'_, T>) -> Result<T, StoreError> {
    caught(call).await.unwrap_or_else(|panic| Err(panicked(&panic)))
}

/// The error of a store call that panicked.
pub(super) fn panicked(panic: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unknown, format!("the store {panic}"))
}

fn is_ours(store: &dyn Store) -> bool {
    let store: &dyn std::any::Any = store;
    let is_ours = store.is::<crate::store::MemoryStore>();
    #[cfg(feature = "sqlite")]
    let is_ours = is_ours || store.is::<crate::store::SqliteStore>();
    #[cfg(feature = "postgres")]
    let is_ours = is_ours || store.is::<crate::store::PostgresStore>();
    #[cfg(feature = "redis")]
    let is_ours = is_ours || store.is::<crate::store::RedisStore>();
    is_ours
}

/// A custom store.
#[derive(Debug)]
struct Guarded(Arc<dyn Store>);

/// Makes one call. A panic while it is made or while it is awaited becomes an error.
fn guard<'a, T: 'a>(call: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a) -> StoreFuture<'a, T> {
    Box::pin(async move {
        let answer = match panics::catch(call) {
            Ok(answer) => caught(answer).await,
            Err(panic) => Err(panic),
        };
        answer.unwrap_or_else(|panic| Err(panicked(&panic)))
    })
}

impl StoreLayer for Guarded {
    fn inner(&self) -> &dyn Store {
        &*self.0
    }

    fn around<'a, T: Send + 'a>(
        &'a self,
        _call: StoreCall,
        inner: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        guard(inner)
    }

    fn location(&self) -> String {
        panics::catch(|| self.0.location()).unwrap_or_else(|_| "a store of this program".to_owned())
    }

    fn capabilities(&self) -> Capabilities {
        panics::catch(|| self.0.capabilities()).unwrap_or_default()
    }

    fn look_again_in(&self) -> Option<std::time::Duration> {
        panics::catch(|| self.0.look_again_in()).unwrap_or_default()
    }

    /// The engine itself catches panics of the returned [`Immediate`].
    fn immediate(&self) -> Option<&dyn Immediate> {
        panics::catch(|| self.0.immediate()).unwrap_or_default()
    }

    fn listen(&self) -> HintStream {
        guard_stream("hints", || self.0.listen())
    }

    fn show_life(&self, instance: InstanceId) -> LivenessStream {
        guard_stream("liveness stream", || self.0.show_life(instance))
    }
}

type Items<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// Wraps a stream of the store. A panic ends the stream; the engine asks for hints again after a while.
fn guard_stream<T: 'static>(what: &'static str, open: impl FnOnce() -> Items<T>) -> Items<T> {
    let items = panics::catch(open).map_err(|panic| tracing::error!("the {what} of the store {panic}")).ok();
    Box::pin(GuardedStream { what, items })
}

struct GuardedStream<T> {
    what: &'static str,
    items: Option<Items<T>>,
}

impl<T> Stream for GuardedStream<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(items) = &mut self.items else { return Poll::Ready(None) };
        match panics::catch(|| items.as_mut().poll_next(cx)) {
            Ok(item) => item,
            Err(panic) => {
                tracing::error!("the {} of the store {panic}", self.what);
                self.items = None;
                Poll::Ready(None)
            }
        }
    }
}
