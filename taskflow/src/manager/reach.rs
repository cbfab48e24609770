//! Methods of a manager that only the test kit calls.

use super::TaskManager;

impl TaskManager {
    /// A handle to a task that was added elsewhere.
    pub(crate) fn handle_of<V>(&self, id: crate::TaskId) -> super::TaskHandle<V> {
        let inserted = crate::store::Inserted::new(id, crate::store::InsertedAs::Pending);
        super::TaskHandle::of(self.0.core.clone(), None, None, inserted)
    }

    /// The record with its sealed parts opened; unchanged if this manager cannot open all of them.
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

    /// The number of tasks that run in this process.
    pub(crate) fn runs(&self) -> usize {
        self.0.worker.as_ref().map_or(0, |worker| worker.core.runs.count().1)
    }

    /// Recovers the runs whose leases have ended.
    pub(crate) async fn recover(&self) {
        // After an error, the manager's own recovery tries again.
        let _ = crate::engine::recovery::recover(&self.0.core).await;
    }
}
