//! The audit log.

use axum::response::Response;
use http::StatusCode;

use super::query::{cursor, instant, limit};
use crate::admin::AuditFilter;
use crate::admin::views::Listed;
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

/// A page of entries, newest first. An actor that is narrowed to some queues sees only its own.
pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    let filter = AuditFilter {
        actor: call.field("actor").map(str::to_owned),
        action: call.field("action").map(str::to_owned),
        target: call.field("target").map(str::to_owned),
        since: instant(&call, "since")?,
        after: cursor(&call)?,
        limit: Some(limit(&call, 1000)?),
    };
    let page = call.console().audit_seen_by(&call.actor, filter).await?;
    Ok(json(StatusCode::OK, &Listed { items: page.items, next: page.next }))
}
