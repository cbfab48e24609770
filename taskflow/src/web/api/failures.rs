//! Failures, grouped by task and error.

use std::time::{Duration, SystemTime};

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::query::instant;
use crate::admin::{failures, grammar};
use crate::model::{TaskFilter, TaskId, TaskStatus, time};
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

/// The window of a request without `since`.
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Serialize)]
struct Groups {
    items: Vec<Group>,
    /// How many tasks were examined.
    looked_at: usize,
    /// Whether older ones were not examined.
    cut: bool,
}

#[derive(Serialize)]
struct Group {
    fingerprint: String,
    name: String,
    status: TaskStatus,
    message: String,
    count: u64,
    #[serde(with = "time::rfc3339_serde")]
    first: SystemTime,
    #[serde(with = "time::rfc3339_serde")]
    last: SystemTime,
    sample_id: TaskId,
    /// How many ended in each 24th of the time since `since`, or of the last 24 hours; the oldest part first.
    over_time: [u64; failures::PARTS],
    /// A filter that selects the group, and at times a few others with the same words.
    filter: String,
}

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    let mut filter = TaskFilter::new();
    for (field, value) in &call.query {
        match field.as_str() {
            "queue" => filter = filter.queue(value),
            "name" => filter = filter.name(value),
            _ => {}
        }
    }
    filter.finished_after = instant(&call, "since")?;
    let now = call.now();
    let window = filter.finished_after.map_or(DAY, |since| now.duration_since(since).unwrap_or_default());
    let found = failures::read(call.console().tasks(), call.actor.narrow(filter), window, now).await?;
    let items = found.groups.into_iter().map(|group| {
        let mut words = vec![("status", group.status.as_str()), ("name", group.name.as_str())];
        words.extend(Some(("error", group.common.as_str())).filter(|(_, common)| !common.is_empty()));
        Group {
            filter: grammar::text(words),
            fingerprint: group.fingerprint,
            status: group.status,
            message: group.message,
            count: group.count,
            first: group.first,
            last: group.last,
            sample_id: group.sample,
            over_time: group.over_time,
            name: group.name,
        }
    });
    let groups = Groups { items: items.collect(), looked_at: found.looked_at, cut: found.is_cut };
    Ok(json(StatusCode::OK, &groups))
}
