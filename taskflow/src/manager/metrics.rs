//! Metrics of a manager, for Prometheus.

use super::{TaskManager, TaskManagerBuilder};
use crate::engine::metrics::{self, StoreState};
#[cfg(feature = "api")]
pub(crate) use crate::observe::Watching;
use crate::observe::{Family, text};

impl TaskManagerBuilder {
    /// Whether this process reads the store for its metrics: the sizes of queues, schedules, and live processes. Default
    /// `true`. They are the same in every process, so many processes can leave them to one.
    pub fn metrics_store_gauges(mut self, read: bool) -> Self {
        self.store_gauges = read;
        self
    }
}

impl TaskManager {
    /// The metrics of this process and of its store, in the text format of Prometheus (version 0.0.4), for an endpoint of your
    /// own. The dashboard and the API serve the same as `/metrics`. The page `docs/observability.md` lists the names.
    ///
    /// What this process counted is always there. The state of the store is read at most every 5 s, however many scrapers
    /// there are; if it does not answer within 2 s it is left out, and `taskflow_degraded` says why.
    ///
    /// ```
    /// # #[taskflow::task] async fn ping() {}
    /// # async fn demo(tasks: taskflow::TaskManager) {
    /// let page = tasks.metrics().await;
    /// assert!(page.contains("# TYPE taskflow_running gauge"));
    /// # }
    /// ```
    pub async fn metrics(&self) -> String {
        text(&self.families().await)
    }

    /// What the API and the dashboard of this process count of their own use.
    #[cfg(feature = "api")]
    pub(crate) fn faces(&self) -> &std::sync::Arc<crate::observe::Faces> {
        &self.0.core.faces
    }

    pub(super) async fn families(&self) -> Vec<Family> {
        let core = &self.0.core;
        let mut families = metrics::of_process(core, self.0.worker.as_deref());
        if core.settings.store_gauges {
            families.extend(metrics::last_gauges(core, self.store_state()).await.iter().cloned());
        }
        families
    }

    async fn store_state(&self) -> Result<StoreState, crate::Error> {
        let queues = self.queues().await?;
        let schedules = self.schedules_due().await?;
        let instances = self.instances().await?;
        Ok(StoreState { queues, schedules, instances })
    }
}
