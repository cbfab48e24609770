//! What only the test kit does with a manager.

use super::TaskManager;

impl TaskManager {
    /// A handle to a task that was added elsewhere.
    pub(crate) fn handle_of<V>(&self, id: crate::TaskId) -> super::TaskHandle<V> {
        let inserted = crate::store::Inserted::new(id, crate::store::InsertedAs::Pending);
        super::TaskHandle::of(self.0.core.clone(), None, None, inserted)
    }

    /// The record with what is sealed opened, as far as this manager has the keys.
    pub(crate) fn opened(&self, record: crate::model::TaskRecord) -> crate::model::TaskRecord {
        #[cfg(feature = "encryption")]
        if let Ok(opened) = self.open(&record) {
            return opened;
        }
        record
    }

    /// Wakes the dispatcher.
    pub(crate) fn wake(&self) {
        if let Some(worker) = &self.0.worker {
            worker.may_have_work();
        }
    }

    /// The number of bodies that run in this process.
    pub(crate) fn runs(&self) -> usize {
        self.0.worker.as_ref().map_or(0, |worker| worker.core.runs.count().1)
    }

    /// Recovers the runs whose leases have ended.
    pub(crate) async fn recover(&self) {
        // A store that fails is asked again by the process itself.
        let _ = crate::engine::recovery::recover(&self.0.core).await;
    }
}
