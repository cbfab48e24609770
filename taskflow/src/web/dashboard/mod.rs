//! The dashboard: pages made on the server. They are complete without JavaScript; with it, they stay current.
//!
//! Each page is one `GET`, and all its state is in its URL. Forms `POST`; an act that succeeds answers 303. Two pages answer a
//! `POST`: the preview of an act on many tasks, and a task with its sealed parts opened. [`frame`] has what all pages
//! share, each file of [`pages`] is one page, and `web/live.rs` is the pulse that keeps open pages current.

mod assets;
pub(super) mod cache;
mod chart;
mod frame;
mod history;
mod json;
mod pages;
mod sentence;
mod words;

use axum::response::Response;

use super::call::Call;
use super::problem::Problem;
use super::route::{Route, route};
use pages::{
    audit, error, events, failures, login, operations, overview, queues, schedules, selection, task, tasks,
    types, workers,
};

pub(crate) static ROUTES: &[Route] = &[
    route!(Dashboard, GET "/", View => overview::show),
    route!(Dashboard, GET "/assets/{file}", Nothing => assets::show),
    route!(Dashboard, GET "/events", View => events::pulse),
    route!(Dashboard, GET "/login", Nothing => login::show),
    route!(Dashboard, POST "/login", Nothing => login::log_in),
    route!(Dashboard, POST "/logout", Actor => login::log_out),
    route!(Dashboard, GET "/tasks", View => tasks::show),
    route!(Dashboard, POST "/tasks/preview", View => selection::preview),
    route!(Dashboard, POST "/tasks/act", View => selection::act),
    route!(Dashboard, GET "/tasks/{id}", View => task::show),
    route!(Dashboard, GET "/tasks/{id}/log.txt", ViewLogs => task::log_file),
    route!(Dashboard, GET "/tasks/{id}/events", View => events::task),
    route!(Dashboard, POST "/tasks/{id}/retry", Retry => task::retry),
    route!(Dashboard, POST "/tasks/{id}/open", ViewSecrets => task::open),
    route!(Dashboard, POST "/tasks/{id}/cancel", Cancel => task::cancel),
    route!(Dashboard, POST "/tasks/{id}/delete", DeleteOne => task::delete),
    route!(Dashboard, GET "/failures", View => failures::show),
    route!(Dashboard, GET "/queues", View => queues::list),
    route!(Dashboard, GET "/queues/{queue}", View => queues::show),
    route!(Dashboard, POST "/queues/{queue}", SetLimits => queues::set),
    route!(Dashboard, POST "/queues/{queue}/reset", SetLimits => queues::reset),
    route!(Dashboard, POST "/queues/{queue}/pause", Pause => queues::pause),
    route!(Dashboard, POST "/queues/{queue}/resume", Pause => queues::resume),
    route!(Dashboard, GET "/schedules", View => schedules::show),
    route!(Dashboard, POST "/schedules/{schedule}/run", RunSchedule => schedules::run),
    route!(Dashboard, POST "/schedules/{schedule}/pause", RunSchedule => schedules::pause),
    route!(Dashboard, POST "/schedules/{schedule}/resume", RunSchedule => schedules::resume),
    route!(Dashboard, POST "/schedules/{schedule}/remove", Add => schedules::remove),
    route!(Dashboard, GET "/workers", View => workers::show),
    route!(Dashboard, GET "/types", View => types::list),
    route!(Dashboard, GET "/types/{name}", View => types::show),
    route!(Dashboard, POST "/types/{name}/add", Add => types::add),
    route!(Dashboard, GET "/audit", Audit => audit::show),
    route!(Dashboard, GET "/operations", View => operations::list),
    route!(Dashboard, GET "/operations/{id}", View => operations::show),
    route!(Dashboard, POST "/operations/{id}/stop", View => operations::stop),
    route!(Dashboard, POST "/operations/{id}/resume", View => operations::go_on),
];

/// The page of an error.
pub(crate) fn failed(call: &Call, problem: Problem) -> Response {
    error::page(call, problem)
}
