//! The state of everything in one answer.

use axum::response::Response;
use http::StatusCode;

use super::queues;
use crate::admin::views::OverviewView;
use crate::model::{Count, Counts, TaskFilter, TaskStatus};
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    let tasks = call.console().tasks();
    let queues = queues::seen(&call).await?;
    let (counts, exact) = match call.actor.sees_all_queues() {
        true => (tasks.counts().await?, true),
        false => counts(&call).await?,
    };
    let instances = tasks.instances().await?;
    let running = match call.actor.sees_all_queues() {
        true => instances.iter().map(|it| it.running).sum(),
        false => queues.iter().map(|queue| queue.running).sum(),
    };
    let instances = (instances.len(), running);
    let overview = OverviewView::of(counts, exact, queues, instances, tasks.health(), call.now());
    Ok(json(StatusCode::OK, &overview))
}

/// The counts of the actor's queues, and whether they are exact.
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
