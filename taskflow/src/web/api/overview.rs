//! The state of everything in one answer.

use std::time::{Duration, SystemTime};

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::queues::{self, Shown};
use crate::model::{Count, Counts, Health, QueueInfo, TaskFilter, TaskStatus, time};
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

#[derive(Serialize)]
struct Overview {
    counts: CountsWithTotal,
    waiting: u64,
    scheduled: u64,
    #[serde(with = "time::seconds_option")]
    oldest_waiting: Option<Duration>,
    finished_last_minute: u64,
    queues: Vec<Shown>,
    instances: Instances,
    health: Health,
    #[serde(with = "time::rfc3339_serde")]
    taken_at: SystemTime,
}

#[derive(Serialize)]
struct CountsWithTotal {
    #[serde(flatten)]
    counts: Counts,
    total: u64,
    /// Whether there are no more.
    exact: bool,
}

#[derive(Serialize)]
struct Instances {
    live: usize,
    running: u64,
}

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    let tasks = call.console().tasks();
    let queues = queues::seen(&call).await?;
    let (counts, exact) = match call.actor.sees_all_queues() {
        true => (tasks.counts().await?, true),
        false => counts(&call).await?,
    };
    let instances = tasks.instances().await?;
    let sum = |of: fn(&QueueInfo) -> u64| queues.iter().map(of).sum();
    let overview = Overview {
        waiting: sum(QueueInfo::waiting),
        scheduled: sum(|queue| queue.scheduled),
        oldest_waiting: queues.iter().filter_map(|queue| queue.oldest_waiting).max(),
        finished_last_minute: sum(|queue| queue.finished_last_minute),
        counts: CountsWithTotal { total: counts.total(), counts, exact },
        instances: Instances {
            live: instances.len(),
            running: match call.actor.sees_all_queues() {
                true => instances.iter().map(|it| it.running).sum(),
                false => sum(|queue| queue.running),
            },
        },
        queues: queues::shown(queues),
        health: tasks.health(),
        taken_at: call.now(),
    };
    Ok(json(StatusCode::OK, &overview))
}

/// The counts of the actor's queues.
async fn counts(call: &Call) -> Result<(Counts, bool), Problem> {
    let (mut counts, mut exact) = (Counts::default(), true);
    for status in TaskStatus::ALL {
        let filter = call.actor.narrow(TaskFilter::new().status(status));
        let number = call.console().tasks().count(filter, Count::UP_TO).await?;
        *counts.get_mut(status) = number.n;
        exact &= number.exact;
    }
    Ok((counts, exact))
}
