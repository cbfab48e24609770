//! The live processes.

use axum::response::Response;
use http::StatusCode;

use crate::admin::views::{InstanceView, Listed};
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    let instances = call.console().instances(&call.actor).await?;
    Ok(json(StatusCode::OK, &Listed::all(InstanceView::each(instances))))
}
