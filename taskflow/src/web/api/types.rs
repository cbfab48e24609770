//! The tasks that the live processes know.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;

use crate::admin::AdminError;
use crate::admin::views::{Listed, TypeView};
use crate::model::StatsFilter;
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, &Listed::all(call.console().types(&call.actor).await?)))
}

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    let name = call.param("name");
    let found = call.console().types(&call.actor).await?.into_iter().find(|task| task.name == name);
    let none = || AdminError::NotFound { what: "type of task", name: name.to_owned() };
    let info = found.ok_or_else(none)?;
    let filter = StatsFilter::last(DAY).name(info.name.as_str());
    // The statistics of a name cover all queues.
    let last_day = match call.actor.sees_all_queues() {
        true => Some(call.console().tasks().stats(filter).await?.total()),
        false => None,
    };
    Ok(json(StatusCode::OK, &TypeView::of(info, last_day.as_ref())))
}
