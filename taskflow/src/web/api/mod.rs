//! The REST API, `/api/v1`.

mod add;
mod audit;
mod body;
mod events;
mod export;
mod failures;
mod follow;
mod instances;
mod logs;
mod many;
mod me;
mod openapi;
mod overview;
mod query;
mod queues;
mod schedules;
mod stats;
mod tasks;
mod types;

use super::route::{EMPTY, FILTER, Route, route};

pub(crate) use openapi::describe;

#[rustfmt::skip]
pub(crate) static ROUTES: &[Route] = &[
    route!(Api, GET "/api/v1/me", Actor => me::show; "Who you are, and what you may do" [] 200 "Me"),
    route!(Api, POST "/api/v1/login", Nothing => me::log_in; "Begins a session, and sets its cookie" [] ("Login") 200 "Me"),
    route!(Api, POST "/api/v1/logout", Actor => me::log_out; "Ends the session" [] ("Logout") 204 EMPTY),
    route!(Api, GET "/api/v1/openapi.json", View => openapi::show; "This document" [] 200 "Document"),
    route!(Api, GET "/api/v1/overview", View => overview::show; "The state of everything" [] 200 "Overview"),
    route!(Api, GET "/api/v1/tasks", View => tasks::list; "Tasks, newest or oldest first" [FILTER, "q", "limit", "after", "order", "view"] 200 "TaskPage"),
    route!(Api, POST "/api/v1/tasks", Add => add::add; "Adds a task by its name" [] ("AddTask") 201 "Added", 200 "Added"),
    route!(Api, GET "/api/v1/tasks/count", View => tasks::count; "How many tasks match" [FILTER, "q", "up_to"] 200 "Count"),
    route!(Api, GET "/api/v1/tasks/names", View => tasks::names; "The names of known tasks, the queues and the tag keys that contain a text" ["q"] 200 "Names"),
    route!(Api, POST "/api/v1/tasks/cancel", Cancel => many::cancel; "Cancels many tasks, or previews that" [] ("ActOnMany") 200 "ActedOnMany", 202 "Operation"),
    route!(Api, POST "/api/v1/tasks/retry", Retry => many::retry; "Retries many tasks, or previews that" [] ("RetryMany") 200 "ActedOnMany", 202 "Operation"),
    route!(Api, POST "/api/v1/tasks/delete", DeleteMany => many::delete; "Deletes many ended tasks, or previews that" [] ("ActOnMany") 200 "ActedOnMany", 202 "Operation"),
    route!(Api, GET "/api/v1/tasks/{id}", View => tasks::show; "A whole task" [] 200 "Task", 304 EMPTY),
    route!(Api, DELETE "/api/v1/tasks/{id}", DeleteOne => tasks::delete; "Deletes an ended task" [] ("Reason") 204 EMPTY),
    route!(Api, POST "/api/v1/tasks/{id}/cancel", Cancel => tasks::cancel; "Cancels a task" [] ("Reason") 200 "Cancelled"),
    route!(Api, POST "/api/v1/tasks/{id}/retry", Retry => tasks::retry; "Retries a task that ended without success" [] ("Reason") 200 "Row"),
    route!(Api, POST "/api/v1/tasks/{id}/open", ViewSecrets => tasks::open; "Opens the sealed parts of a task, with an entry in the audit log" [] ("Reason") 200 "Opened"),
    route!(Api, GET "/api/v1/tasks/{id}/logs", ViewLogs => logs::show; "Log lines of a task; as text with `Accept: text/plain`" ["after", "limit", "attempt", "level"] 200 "Lines"),
    route!(Api, GET "/api/v1/tasks/{id}/events", ViewLogs => follow::follow; "Log lines, progress and status as they come, until the task ends" ["after"] 200 "text/event-stream"),
    route!(Api, GET "/api/v1/operations", View => many::list; "The latest 100 acts on many tasks" [] 200 "OperationPage"),
    route!(Api, GET "/api/v1/operations/{id}", View => many::show; "How far an act on many tasks is" [] 200 "Operation"),
    route!(Api, DELETE "/api/v1/operations/{id}", View => many::stop; "Stops an act on many tasks; needs the permission of its verb" [] ("Reason") 200 "Operation"),
    route!(Api, POST "/api/v1/operations/{id}/resume", View => many::resume; "Goes on with an act on many tasks that was stopped, was broken off or failed; needs the permission of its verb" [] ("Reason") 202 "Operation"),
    route!(Api, GET "/api/v1/queues", View => queues::list; "All queues" [] 200 "QueuePage"),
    route!(Api, GET "/api/v1/queues/{queue}", View => queues::show; "A queue" [] 200 "Queue"),
    route!(Api, PATCH "/api/v1/queues/{queue}", SetLimits => queues::set; "Changes limits for all processes" [] ("SetQueue") 200 "Queue"),
    route!(Api, DELETE "/api/v1/queues/{queue}/limits", SetLimits => queues::reset; "Removes the stored limits, so that the program's apply" [] ("Reason") 200 "Queue"),
    route!(Api, POST "/api/v1/queues/{queue}/pause", Pause => queues::pause; "Pauses a queue" [] ("Reason") 200 "Queue"),
    route!(Api, POST "/api/v1/queues/{queue}/resume", Pause => queues::resume; "Resumes a queue" [] ("Reason") 200 "Queue"),
    route!(Api, GET "/api/v1/schedules", View => schedules::list; "All schedules" [] 200 "SchedulePage"),
    route!(Api, GET "/api/v1/schedules/{schedule}", View => schedules::show; "A schedule" [] 200 "Schedule"),
    route!(Api, DELETE "/api/v1/schedules/{schedule}", Add => schedules::remove; "Removes a schedule that was added at run time" [] ("Reason") 204 EMPTY),
    route!(Api, POST "/api/v1/schedules/{schedule}/run", RunSchedule => schedules::run; "Adds the task of a schedule now" [] ("Reason") 201 "Started"),
    route!(Api, POST "/api/v1/schedules/{schedule}/pause", RunSchedule => schedules::pause; "Pauses a schedule" [] ("Reason") 200 "Schedule"),
    route!(Api, POST "/api/v1/schedules/{schedule}/resume", RunSchedule => schedules::resume; "Resumes a schedule" [] ("Reason") 200 "Schedule"),
    route!(Api, GET "/api/v1/instances", View => instances::list; "The live processes" [] 200 "InstancePage"),
    route!(Api, GET "/api/v1/types", View => types::list; "The tasks that the live processes know" [] 200 "TypePage"),
    route!(Api, GET "/api/v1/types/{name}", View => types::show; "A task that the live processes know" [] 200 "Type"),
    route!(Api, GET "/api/v1/stats", View => stats::show; "What tasks did in the last hour, or up to 24 hours" ["from", "to", "step", "by", "name", "queue"] 200 "Stats"),
    route!(Api, GET "/api/v1/failures", View => failures::list; "The newest 5,000 failures, grouped by task and error" ["since", "queue", "name"] 200 "Failures"),
    route!(Api, GET "/api/v1/events", View => events::pulse; "Counts and queues as they change" [] 200 "text/event-stream"),
    route!(Api, GET "/api/v1/audit", Audit => audit::list; "What people and programs did, newest first" ["actor", "action", "target", "since", "limit", "after"] 200 "AuditPage"),
    route!(Api, GET "/api/v1/export.csv", ViewArgs => export::as_csv; "Up to 100,000 tasks as CSV" [FILTER, "q"] 200 "text/csv"),
    route!(Api, GET "/api/v1/export.ndjson", ViewArgs => export::as_lines; "Up to 100,000 tasks, each a line of JSON" [FILTER, "q"] 200 "application/x-ndjson"),
];
