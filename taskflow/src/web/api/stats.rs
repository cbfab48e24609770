//! Statistics: what tasks did in some time, and how long it took.

use std::time::{Duration, SystemTime};

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::query::{instant, word};
use crate::admin::grammar;
use crate::model::{Histogram, RunCounts, Stats, StatsBy, StatsFilter, StatsSeries, TaskFilter, time};
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

/// The time that is shown without `from`.
const LAST: Duration = Duration::from_secs(3600);

#[derive(Serialize)]
struct Shown {
    #[serde(with = "time::rfc3339_serde")]
    from: SystemTime,
    #[serde(with = "time::rfc3339_serde")]
    to: SystemTime,
    #[serde(with = "time::seconds")]
    step: Duration,
    series: Vec<Series>,
}

#[derive(Serialize)]
struct Series {
    key: Option<String>,
    total: Numbers,
    points: Vec<Point>,
}

#[derive(Serialize)]
struct Point {
    #[serde(with = "time::rfc3339_serde")]
    at: SystemTime,
    #[serde(flatten)]
    numbers: Numbers,
}

#[derive(Serialize)]
pub(super) struct Numbers {
    #[serde(flatten)]
    counts: RunCounts,
    wait: Lengths,
    run: Lengths,
}

/// How long something took.
#[derive(Serialize)]
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

impl Numbers {
    pub(super) fn of(stats: &crate::model::RunStats) -> Self {
        Self { counts: stats.counts, wait: Lengths::of(&stats.wait), run: Lengths::of(&stats.run) }
    }
}

impl Series {
    fn of(series: StatsSeries) -> Self {
        let total = Numbers::of(&series.total());
        let point =
            |point: &crate::model::StatsPoint| Point { at: point.at, numbers: Numbers::of(&point.stats) };
        Self { points: series.points.iter().map(point).collect(), total, key: series.key }
    }
}

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    let by = match word(&call, "by", &["all", "name", "queue"])? {
        Some("name") => StatsBy::Name,
        Some("queue") => StatsBy::Queue,
        _ => StatsBy::All,
    };
    let mut filter = match (instant(&call, "from")?, instant(&call, "to")?) {
        (None, None) => StatsFilter::last(LAST),
        (Some(from), to) => StatsFilter::between(from, to.unwrap_or_else(|| call.now())),
        (None, Some(_)) => return Err(Problem::invalid("from", "it is missing, and `to` is given")),
    };
    if let Some(text) = call.field("step") {
        let step = grammar::length(text).or_else(|| text.parse().ok().map(Duration::from_secs));
        let wrong = || Problem::invalid("step", format!("`{text}` is not a length: write `5m` or `1h`"));
        filter = filter.step(step.ok_or_else(wrong)?);
    }
    if let Some(name) = call.field("name") {
        filter = filter.name(name);
    }
    if let Some(queue) = call.field("queue") {
        filter = filter.queue(queue);
    }
    let stats = read(&call, filter, by).await?;
    let shown = Shown {
        from: stats.from,
        to: stats.to,
        step: stats.step,
        series: stats.series.into_iter().map(Series::of).collect(),
    };
    Ok(json(StatusCode::OK, &shown))
}

/// The statistics that the actor may see. An actor of some queues sees them by queue, or for one queue.
async fn read(call: &Call, filter: StatsFilter, by: StatsBy) -> Result<Stats, Problem> {
    let tasks = call.console().tasks();
    if call.actor.sees_all_queues() {
        return Ok(tasks.stats(filter.by(by)).await?);
    }
    match (call.field("queue"), by) {
        (Some(queue), by) if call.actor.sees_queue(queue) => Ok(tasks.stats(filter.by(by)).await?),
        (None, StatsBy::Queue) => {
            let mut stats = tasks.stats(filter.by(by)).await?;
            stats.series.retain(|series| series.key.as_deref().is_some_and(|key| call.actor.sees_queue(key)));
            Ok(stats)
        }
        _ => {
            let queues = call.actor.narrow(TaskFilter::new()).queues;
            let message =
                format!("you see only the queues {}: name one, or group `by=queue`", queues.join(", "));
            Err(Problem::invalid("queue", message))
        }
    }
}
