//! Metrics of a manager, for Prometheus.

use super::{TaskManager, TaskManagerBuilder};
use crate::engine::metrics::{self, StoreState};
#[cfg(feature = "api")]
pub(crate) use crate::observe::Watching;
use crate::observe::{Family, text};

impl TaskManagerBuilder {
    /// Whether the metrics of this process include those that it must read from the store: queues, schedules and live
    /// processes. Default `true`. They are the same in every process, so it is enough if one process has them.
    pub fn metrics_store_gauges(mut self, read: bool) -> Self {
        self.store_gauges = read;
        self
    }
}

impl TaskManager {
    /// The metrics of this process and of its store, in the text format of Prometheus (version 0.0.4), for an endpoint of your
    /// own. The dashboard and the API serve the same text at `/metrics`. The page `docs/observability.md` lists the names.
    ///
    /// The counts of this process are always included. The state of the store is read at most every 5 s, regardless of the
    /// number of scrapers. If the store fails or does not answer within 2 s, its state is left out, and the log says why.
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

    /// The counts of requests and open streams of this process's API and dashboard.
    #[cfg(feature = "api")]
    pub(crate) fn faces(&self) -> &std::sync::Arc<crate::observe::HttpUsage> {
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
