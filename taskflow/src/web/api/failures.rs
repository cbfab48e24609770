//! Failures, grouped by task and error.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;

use super::query::instant;
use crate::admin::views::FailuresView;
use crate::model::TaskFilter;
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

/// The window of a request without `since`.
const DAY: Duration = Duration::from_secs(24 * 3600);

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
    let found = call.console().failures(&call.actor, filter, window).await?;
    Ok(json(StatusCode::OK, &FailuresView::of(&found)))
}
