//! Statistics: what tasks did in a period, and how long it took.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;

use super::query::{instant, word};
use crate::admin::grammar;
use crate::admin::views::StatsView;
use crate::model::{Stats, StatsBy, StatsFilter, TaskFilter};
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

/// The period without `from` and `to`.
const LAST: Duration = Duration::from_secs(3600);

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    let by = match word(&call, "by", &["all", "name", "queue", "outcome"])? {
        Some("name") => StatsBy::Name,
        Some("queue") => StatsBy::Queue,
        Some("outcome") => StatsBy::Outcome,
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
    Ok(json(StatusCode::OK, &StatsView::of(&stats)))
}

/// The statistics that the actor may see. An actor that is narrowed to some queues must group by queue or name one queue.
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
