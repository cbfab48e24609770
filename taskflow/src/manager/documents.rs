//! Documents in the store, for the faces of taskflow.

use super::TaskManager;
use crate::model::{Error, InstanceId};
use crate::seam::Seam;
use crate::store::{Document, DocumentQuery, DocumentWrite};

impl TaskManager {
    /// The clocks of this manager.
    pub(crate) fn seam(&self) -> &Seam {
        &self.0.core.seam
    }

    /// A handle to a task that was added elsewhere.
    #[cfg(feature = "testing")]
    pub(crate) fn handle_of<V>(&self, id: crate::TaskId) -> super::TaskHandle<V> {
        let inserted = crate::store::Inserted::new(id, crate::store::InsertedAs::Pending);
        super::TaskHandle::of(self.0.core.clone(), None, inserted)
    }

    /// Wakes the dispatcher.
    #[cfg(feature = "testing")]
    pub(crate) fn wake(&self) {
        if let Some(worker) = &self.0.worker {
            worker.may_have_work();
        }
    }

    /// The number of bodies that run in this process.
    #[cfg(feature = "testing")]
    pub(crate) fn runs(&self) -> usize {
        self.0.worker.as_ref().map_or(0, |worker| worker.core.runs.count().1)
    }

    /// Recovers the runs whose leases have ended.
    #[cfg(feature = "testing")]
    pub(crate) async fn recover(&self) {
        // A store that fails is asked again by the process itself.
        let _ = crate::engine::recovery::recover(&self.0.core).await;
    }

    /// Spawns a task on this manager's runtime.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.core.spawn(future);
    }

    /// The id of this process as an instance.
    pub(crate) fn instance(&self) -> InstanceId {
        self.0.core.instance.id
    }

    pub(crate) async fn documents(&self, query: DocumentQuery) -> Result<Vec<Document>, Error> {
        let core = &self.0.core;
        Ok(core.aside(core.store.documents(query)).await?)
    }

    pub(crate) async fn write_documents(
        &self,
        writes: Vec<DocumentWrite>,
    ) -> Result<Vec<Option<u64>>, Error> {
        let core = &self.0.core;
        Ok(core.aside(core.store.write_documents(writes)).await?)
    }
}
