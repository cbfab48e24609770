//! Schedules.

use axum::response::Response;
use http::StatusCode;
use http::header::{self, HeaderValue};
use serde::Serialize;

use super::body;
use super::tasks::empty;
use crate::admin::AdminError;
use crate::admin::views::{Listed, ScheduleView};
use crate::model::{ScheduleInfo, TaskId};
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

/// How many ticks are shown.
const TICKS: usize = 5;

fn view(info: ScheduleInfo) -> ScheduleView {
    ScheduleView::of(info, TICKS)
}

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    let schedules = call.console().schedules(&call.actor).await?;
    Ok(json(StatusCode::OK, &Listed::all(schedules.into_iter().map(view).collect())))
}

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    let name = call.param("schedule");
    let found = call.console().schedules(&call.actor).await?.into_iter().find(|it| it.name == name);
    let none = || AdminError::NotFound { what: "schedule", name: name.to_owned() };
    Ok(json(StatusCode::OK, &view(found.ok_or_else(none)?)))
}

#[derive(Serialize)]
struct Started {
    task: TaskId,
}

pub(super) async fn run(call: Call) -> Result<Response, Problem> {
    let by = body::by(&call).await?;
    let task = call.console().run_schedule(&by, call.param("schedule")).await?;
    let mut response = json(StatusCode::CREATED, &Started { task });
    if let Ok(location) = HeaderValue::try_from(format!("{}/api/v1/tasks/{task}", call.base)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(super) async fn pause(call: Call) -> Result<Response, Problem> {
    let by = body::by(&call).await?;
    call.console().pause_schedule(&by, call.param("schedule")).await?;
    show(call).await
}

pub(super) async fn resume(call: Call) -> Result<Response, Problem> {
    let by = body::by(&call).await?;
    call.console().resume_schedule(&by, call.param("schedule")).await?;
    show(call).await
}

pub(super) async fn remove(call: Call) -> Result<Response, Problem> {
    let by = body::by(&call).await?;
    call.console().remove_schedule(&by, call.param("schedule")).await?;
    Ok(empty())
}
