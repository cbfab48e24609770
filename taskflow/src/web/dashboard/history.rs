//! The statistics of the last hour and day, as charts. A store that keeps no documents has none: then these charts are missing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::chart::{self, Histogram, Minute, Throughput, sparkline};
use super::words::{counted, length, percent};
use crate::model::{Error, Histogram as Lengths, RunStats, Stats, StatsBy, StatsFilter};
use crate::web::call::Call;

const MINUTE: Duration = Duration::from_secs(60);
const MINUTES: usize = 60;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Statistics from the cache, which reads them at most as often as the pulse does. `None` if the store has none or does
/// not answer.
async fn read(call: &Call, key: &str, filter: StatsFilter) -> Option<Arc<Stats>> {
    let tasks = call.console().tasks();
    let stats = call.state.cache.shared(format!("stats {key}"), call.seam(), async {
        Ok::<_, Error>(tasks.stats(filter).await.ok().map(Arc::new))
    });
    stats.await.ok()?.as_ref().clone()
}

/// The last hour, minute by minute, by queue.
async fn hour(call: &Call) -> Option<Arc<Stats>> {
    let last = StatsFilter::last(MINUTE * (MINUTES as u32 - 1)).step(MINUTE);
    read(call, "hour by queue", last.by(StatsBy::Queue)).await
}

/// Ended runs per minute of each queue.
#[derive(Debug, Default)]
pub(crate) struct ByQueue(BTreeMap<String, Vec<u64>>);

impl ByQueue {
    /// The points of the line of a queue; empty without statistics.
    pub(crate) fn line(&self, queue: &str) -> String {
        self.0.get(queue).map(|values| sparkline(values)).unwrap_or_default()
    }
}

/// Ended runs per minute of each queue, in the last hour.
pub(crate) async fn by_queue(call: &Call) -> ByQueue {
    let Some(stats) = hour(call).await else { return ByQueue::default() };
    let lines = stats.series.iter().filter_map(|series| {
        let by_minute: BTreeMap<_, _> =
            series.points.iter().map(|point| (point.at, point.stats.counts.ended())).collect();
        let values = stats.instants().map(|at| by_minute.get(&at).copied().unwrap_or(0));
        Some((series.key.clone()?, values.collect()))
    });
    ByQueue(lines.collect())
}

/// The chart of the last hour, of one task or of all that the actor sees; `None` without statistics.
pub(crate) async fn throughput(call: &Call, now: SystemTime, name: Option<&str>) -> Option<Throughput> {
    let stats = match name {
        None => hour(call).await?,
        // The statistics of a name cover all queues.
        Some(_) if !call.actor.sees_all_queues() => return None,
        Some(name) => {
            let last = StatsFilter::last(MINUTE * (MINUTES as u32 - 1)).step(MINUTE);
            read(call, &format!("hour of {name}"), last.name(name)).await?
        }
    };
    let mut by_minute: BTreeMap<SystemTime, RunStats> = BTreeMap::new();
    let seen = stats
        .series
        .iter()
        .filter(|series| series.key.as_ref().is_none_or(|queue| call.actor.sees_queue(queue)));
    for point in seen.flat_map(|series| &series.points) {
        *by_minute.entry(point.at).or_default() += &point.stats;
    }
    let minutes: Vec<_> =
        stats.instants().map(|at| by_minute.get(&at).map(minute).unwrap_or_default()).collect();
    Some(chart::throughput(&minutes, now))
}

fn minute(stats: &RunStats) -> Minute {
    let counts = &stats.counts;
    Minute {
        succeeded: counts.succeeded,
        retried: counts.retried,
        failed: counts.failed + counts.interrupted,
        wait: stats.wait.quantile(0.95),
    }
}

/// What the tasks of one name did in the last day.
#[derive(Clone, Debug, Default)]
pub(crate) struct Day {
    pub(crate) runs: u64,
    pub(crate) failed: u64,
    pub(crate) p50: Option<Duration>,
    pub(crate) p95: Option<Duration>,
    pub(crate) wait: Option<Duration>,
}

impl Day {
    fn new(stats: &RunStats) -> Self {
        let counts = &stats.counts;
        let failed = counts.failed + counts.retried + counts.interrupted;
        Self {
            runs: counts.succeeded + failed,
            failed,
            p50: stats.run.quantile(0.5),
            p95: stats.run.quantile(0.95),
            wait: stats.wait.quantile(0.95),
        }
    }

    /// The share of runs that did not succeed.
    pub(crate) fn failed_share(&self) -> String {
        percent(self.failed, self.runs)
    }
}

/// The last day of each name.
#[derive(Debug, Default)]
pub(crate) struct ByName(BTreeMap<String, (Day, Lengths)>);

impl ByName {
    pub(crate) fn of(&self, name: &str) -> Option<Day> {
        self.0.get(name).map(|(day, _)| day.clone())
    }
}

/// The last day of each name; `None` without statistics, and for an actor that does not see all queues.
pub(crate) async fn by_name(call: &Call) -> Option<ByName> {
    if !call.actor.sees_all_queues() {
        return None;
    }
    let stats = read(call, "day by name", StatsFilter::last(DAY).by(StatsBy::Name)).await?;
    let days = stats.series.iter().filter_map(|series| {
        let total = series.total();
        Some((series.key.clone()?, (Day::new(&total), total.run)))
    });
    Some(ByName(days.collect()))
}

/// The run times of the tasks of a name in the last day, with one run marked, and a sentence about them; `None` without runs.
pub(crate) async fn run_times(call: &Call, name: &str, run: Option<Duration>) -> (Option<Histogram>, String) {
    let Some((day, lengths)) = by_name(call).await.and_then(|mut days| days.0.remove(name)) else {
        return (None, String::new());
    };
    if lengths.count() == 0 {
        return (None, String::new());
    }
    let bounds = Lengths::BOUNDS.into_iter().chain([Duration::from_secs(7 * 24 * 3600)]);
    let buckets: Vec<_> = bounds.zip(lengths.buckets).collect();
    let time = |length: Option<Duration>| length.map_or("–".to_owned(), self::length);
    let mut text = format!(
        "{}: half took at most {}, 95 % at most {}.",
        counted(lengths.count(), "run"),
        time(day.p50),
        time(day.p95)
    );
    if let Some(run) = run {
        text.push_str(&format!(" The last run of this task took {}.", length(run)));
    }
    (Some(chart::histogram(&buckets, run)), text)
}
