//! The catalogue: the tasks that the live processes know.

use axum::response::Response;
use http::StatusCode;

use super::row::Listed;
use crate::admin::AdminError;
use crate::model::TaskInfo;
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

async fn seen(call: &Call) -> Result<Vec<TaskInfo>, Problem> {
    let mut known = call.console().tasks().tasks().await?;
    known.retain(|task| call.actor.sees_queue(&task.queue));
    Ok(known)
}

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, &Listed::all(seen(&call).await?)))
}

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    let name = call.param("name");
    let found = seen(&call).await?.into_iter().find(|task| task.name == name);
    let none = || AdminError::NotFound { what: "type of task", name: name.to_owned() };
    Ok(json(StatusCode::OK, &found.ok_or_else(none)?))
}
