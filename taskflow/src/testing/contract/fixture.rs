//! The stores that a suite opens, one for each case.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::store::Store;

/// The future of a store or fixture that is being opened.
type Opening<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Opens another handle to the store of a fixture.
pub(crate) type OpenHandle = Arc<dyn Fn() -> Opening<Arc<dyn Store>> + Send + Sync>;

/// A store without any tasks, for one case.
pub struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) another: Option<OpenHandle>,
    /// What must live as long as the store does.
    pub(crate) keep: Box<dyn Any + Send>,
}

impl Fixture {
    /// A fixture of this store. Nothing else may use the tasks of the store while the case runs.
    #[must_use]
    pub fn new(store: impl Store) -> Self {
        Self { store: Arc::new(store), another: None, keep: Box::new(()) }
    }

    /// Keeps a value until the case has ended: the directory of a file, a server.
    #[must_use]
    pub fn keeping(self, value: impl Any + Send) -> Self {
        Self { keep: Box::new((self.keep, value)), ..self }
    }

    /// Sets how another process opens the same store. The cases of several handles need this, and do nothing without it. One
    /// of them drops the first handle and opens another one, as a restarted process does.
    #[must_use]
    pub fn another_handle<S, O, F>(self, open: O) -> Self
    where
        S: Store,
        O: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = S> + Send + 'static,
    {
        let open = move || -> Opening<Arc<dyn Store>> {
            let opening = open();
            Box::pin(async move { Arc::new(opening.await) as Arc<dyn Store> })
        };
        Self { another: Some(Arc::new(open)), ..self }
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("store", &self.store).finish_non_exhaustive()
    }
}

/// The stores of one kind.
#[derive(Clone)]
pub(crate) struct Stores {
    open: Arc<dyn Fn() -> Opening<Option<Fixture>> + Send + Sync>,
    /// How many random histories to compare.
    pub(crate) histories: u32,
}

impl Stores {
    pub(crate) fn new<O, F>(open: O, histories: u32) -> Self
    where
        O: Fn() -> F + Send + Sync + 'static,
        F: Future<Output: Into<Option<Fixture>>> + Send + 'static,
    {
        let open = move || -> Opening<Option<Fixture>> {
            let opening = open();
            Box::pin(async move { opening.await.into() })
        };
        Self { open: Arc::new(open), histories }
    }

    pub(crate) fn with_histories(self, histories: u32) -> Self {
        Self { histories, ..self }
    }

    /// Opens a store without tasks. `None` if no such store is available on this machine.
    pub(crate) async fn open(&self) -> Option<Fixture> {
        (self.open)().await
    }
}
