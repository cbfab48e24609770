//! Following one task: its log lines, its progress and its status as they come, as server-sent events.

use std::sync::Arc;

use axum::response::Response;
use futures_util::StreamExt;
use http::header::HeaderName;
use serde_json::json;

use super::query::number;
use crate::admin::views::NumberedLine;
use crate::model::TaskUpdate;
use crate::web::call::Call;
use crate::web::problem::Problem;
use crate::web::stream::{answer, event, follow as updates};

pub(super) async fn follow(call: Call) -> Result<Response, Problem> {
    let id = call.id()?;
    let after = number(&call, "after", 0..=usize::MAX)?;
    let last = call.header(&HeaderName::from_static("last-event-id"));
    let after = after.or_else(|| last?.parse().ok()).unwrap_or(0);
    call.console().task(&call.actor, id).await?;
    let events = updates(&call, id, after)?.map(|(n, update)| match update {
        TaskUpdate::Log(line) => event("log", Some(n as u64), &NumberedLine::new(n, line)),
        TaskUpdate::Progress(progress) => event("progress", None, &progress),
        TaskUpdate::Status(status) => event("status", None, &status),
        TaskUpdate::Unavailable { error } => event("degraded", None, &json!({ "error": error })),
        TaskUpdate::Gone => event("gone", None, &()),
    });
    Ok(answer(Arc::new(call), events))
}
