//! A store with faults.

use std::fmt;
use std::sync::Arc;

use super::fault::{Call, Effect, Fault, Faults, Happens};
use crate::model::{Error, StoreError, StoreErrorKind};
use crate::seam::Seam;
use crate::store::{IntoStore, Store, StoreCall, StoreFuture, StoreLayer};

/// A store around any other store, also a real one. It has the faults that a test gives it. A clone is the same store.
///
/// ```
/// use taskflow::testing::{Fault, FaultyStore, Op};
/// use taskflow::TaskManager;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = FaultyStore::around("memory:")?; // or `sqlite://..`, `postgres://..`, `redis://..`
/// let tasks = TaskManager::builder().store(store.clone()).connect().await?;
/// store.fault(Fault::away());
/// assert!(tasks.counts().await.is_err());
/// store.back();
/// assert_eq!(tasks.counts().await?.pending, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Faults,
    seam: Seam,
}

impl FaultyStore {
    /// Wraps a store. It has no faults yet.
    ///
    /// # Errors
    /// Those of opening the store.
    pub fn around(store: impl IntoStore) -> Result<Self, Error> {
        Ok(Self::within(store.into_store()?, Seam::default()))
    }

    pub(super) fn within(inner: Arc<dyn Store>, seam: Seam) -> Self {
        Self { inner, faults: Faults::default(), seam }
    }

    /// Gives the store one more fault.
    pub fn fault(&self, fault: Fault) {
        self.faults.add(fault);
    }

    /// Clears all faults: the store is back.
    pub fn back(&self) {
        self.faults.clear();
    }

    async fn with_faults<T>(
        &self,
        call: Call,
        done: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Happens { delay, late, end } = self.faults.of(call);
        if !delay.is_zero() {
            self.seam.sleep(delay).await;
        }
        if let Some(Effect::Refuse(kind, why)) = end {
            return Err(StoreError::new(kind, why));
        }
        let answer = done.await;
        if !late.is_zero() {
            self.seam.sleep(late).await;
        }
        match end {
            Some(Effect::LoseAnswer) if answer.is_ok() => {
                Err(StoreError::new(StoreErrorKind::Unknown, "the test lost the answer"))
            }
            _ => answer,
        }
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultyStore").field(&self.inner).finish()
    }
}

impl StoreLayer for FaultyStore {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn around<'a, T: Send + 'a>(
        &'a self,
        call: StoreCall,
        inner: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        Box::pin(self.with_faults(Call::of(call), async move { inner().await }))
    }
}
