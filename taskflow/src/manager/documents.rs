//! Access to the store's documents, the clocks and the runtime of a manager, for the API and the dashboard.

use super::TaskManager;
use crate::model::Error;
use crate::seam::Seam;
use crate::store::{Document, DocumentQuery, DocumentWrite};

impl TaskManager {
    /// The clocks of this manager.
    pub(crate) fn seam(&self) -> &Seam {
        &self.0.core.seam
    }

    /// Spawns a task on this manager's runtime.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.core.spawn(future);
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
