//! Statistics: what tasks did, over all processes.

use super::TaskManager;
use crate::engine::statistics;
use crate::model::{Error, Stats, StatsFilter};

impl TaskManager {
    /// What tasks did in a period, over all processes: how many were added, started, succeeded, failed and so on, how long
    /// they waited and how long they ran. Every process writes its counts every 10 s, so the newest counts are up to 10 s old,
    /// and a process that is killed loses the counts of up to 10 s. While the store fails, both times are longer. A process
    /// with [`stats(false)`](crate::TaskManagerBuilder::stats) writes none. Statistics are kept for 24 hours.
    ///
    /// ```
    /// use std::time::Duration;
    /// use taskflow::model::{StatsBy, StatsFilter};
    ///
    /// # async fn demo(tasks: taskflow::TaskManager) -> Result<(), taskflow::Error> {
    /// let last_hour = StatsFilter::last(Duration::from_secs(3600)).by(StatsBy::Name);
    /// for series in tasks.stats(last_hour).await?.series {
    ///     let total = series.total();
    ///     let p95 = total.run.quantile(0.95).unwrap_or_default();
    ///     println!("{}: {} failed, p95 {p95:?}", series.key.unwrap_or_default(), total.counts.failed);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A process counts up to 256 task names by name, and the rest as `other`. When it counts 1,024 pairs of a name and a queue,
    /// it counts any further pair under the name `other` and the queue `other`. The processes' own clocks decide to which minute
    /// a count belongs.
    ///
    /// # Errors
    /// [`Error::Config`] for an empty range, a step that is not a whole number of minutes, and more than
    /// [`StatsFilter::MAX_POINTS`] steps or 100,000 points of all series together. [`Error::Store`] when the store fails or
    /// keeps no documents.
    pub async fn stats(&self, filter: StatsFilter) -> Result<Stats, Error> {
        statistics::read(&self.0.core, &filter).await
    }
}
