use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::model::{Histogram, RunCounts, RunStats, Stats, StatsPoint, StatsSeries, time};

/// Statistics: for each series its points and its total, with durations as percentiles.
#[derive(Debug, Serialize)]
pub struct StatsView {
    #[serde(with = "time::rfc3339_serde")]
    from: SystemTime,
    #[serde(with = "time::rfc3339_serde")]
    to: SystemTime,
    #[serde(with = "time::seconds")]
    step: Duration,
    series: Vec<Series>,
}

#[derive(Debug, Serialize)]
struct Series {
    key: Option<String>,
    total: RunNumbers,
    points: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct Point {
    #[serde(with = "time::rfc3339_serde")]
    at: SystemTime,
    #[serde(flatten)]
    numbers: RunNumbers,
}

/// How many runs ended in which way, how long tasks waited, and how long they ran.
#[derive(Debug, Serialize)]
pub struct RunNumbers {
    #[serde(flatten)]
    counts: RunCounts,
    wait: Lengths,
    run: Lengths,
}

/// How long something took.
#[derive(Debug, Serialize)]
struct Lengths {
    count: u64,
    #[serde(with = "time::seconds_option")]
    mean: Option<Duration>,
    #[serde(with = "time::seconds_option")]
    p50: Option<Duration>,
    #[serde(with = "time::seconds_option")]
    p95: Option<Duration>,
    #[serde(with = "time::seconds_option")]
    p99: Option<Duration>,
}

impl Lengths {
    fn of(lengths: &Histogram) -> Self {
        Self {
            count: lengths.count(),
            mean: lengths.mean(),
            p50: lengths.quantile(0.5),
            p95: lengths.quantile(0.95),
            p99: lengths.quantile(0.99),
        }
    }
}

impl RunNumbers {
    /// The view of these numbers.
    #[must_use]
    pub fn of(stats: &RunStats) -> Self {
        Self { counts: stats.counts, wait: Lengths::of(&stats.wait), run: Lengths::of(&stats.run) }
    }
}

impl Series {
    fn of(series: &StatsSeries) -> Self {
        let total = RunNumbers::of(&series.total());
        let point = |point: &StatsPoint| Point { at: point.at, numbers: RunNumbers::of(&point.stats) };
        Self { points: series.points.iter().map(point).collect(), total, key: series.key.clone() }
    }
}

impl StatsView {
    /// The view of these statistics.
    #[must_use]
    pub fn of(stats: &Stats) -> Self {
        Self {
            from: stats.from,
            to: stats.to,
            step: stats.step,
            series: stats.series.iter().map(Series::of).collect(),
        }
    }
}
