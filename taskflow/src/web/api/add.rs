//! Adding a task by its name.

use axum::response::Response;
use http::StatusCode;
use http::header::{self, HeaderValue};
use serde::Serialize;

use super::body::Fields;
use crate::admin::AdminError;
use crate::model::spelling::closest;
use crate::model::{NewTask, TaskId, When};
use crate::web::call::{Call, json};
use crate::web::layer::trace_of;
use crate::web::problem::Problem;

const FIELDS: [&str; 16] = [
    "name",
    "args",
    "queue",
    "priority",
    "run_at",
    "run_in",
    "expires_at",
    "idempotency_key",
    "run_key",
    "concurrency_key",
    "tags",
    "retries",
    "timeout",
    "eager",
    "force",
    "reason",
];

#[derive(Serialize)]
struct Added {
    id: TaskId,
    /// Another task has the idempotency key: nothing was added, and `id` is the id of that task.
    duplicate: bool,
    /// The task replaced another one with the same run key.
    replacement: bool,
}

pub(super) async fn add(call: Call) -> Result<Response, Problem> {
    let mut fields = Fields::read(&call, &FIELDS).await?;
    let by = fields.by(&call)?;
    let task = new_task(&call, &mut fields).await?;
    let handle = call.console().add(&by, task).await.map_err(|error| {
        let mut problem = Problem::from(error);
        if problem.code == "unknown_queue" {
            // The queue is a field of the body, not a part of the path: so 422, not 404.
            problem.status = StatusCode::UNPROCESSABLE_ENTITY;
        }
        problem
    })?;
    let added =
        Added { id: handle.id(), duplicate: handle.is_duplicate(), replacement: handle.is_replacement() };
    let status = if added.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = json(status, &added);
    if let Ok(location) = HeaderValue::try_from(format!("{}/api/v1/tasks/{}", call.base, added.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn new_task(call: &Call, fields: &mut Fields) -> Result<NewTask, Problem> {
    let name = fields.text("name")?.ok_or_else(|| Problem::invalid("name", "it is missing"))?;
    let args = fields.json("args");
    let is_forced = fields.take("force", "`true` or `false`")?.unwrap_or(false);
    let args = args.map_or_else(|| "{}".to_owned(), |args| args.get().to_owned());
    let mut task = match call.console().new_task(&name, args, is_forced).await {
        // The suggestion may be a task of a queue that this actor does not see.
        Err(AdminError::UnknownTask { name, .. }) if !call.actor.sees_all_queues() => {
            let known = call.console().types(&call.actor).await?;
            let suggestion = closest(&name, known.iter().map(|info| info.name.as_str()));
            return Err(AdminError::UnknownTask { name, suggestion }.into());
        }
        task => task?,
    };
    if let Some(queue) = fields.text("queue")? {
        task.queue = queue.into();
    }
    if !call.actor.sees_queue(&task.queue) {
        return Err(Problem::invalid("queue", format!("{} may not see this queue", call.actor.name())));
    }
    if let Some(priority) = fields.take("priority", "a whole number from -32768 to 32767")? {
        task.priority = priority;
    }
    task.when = match (fields.instant("run_at")?, fields.seconds("run_in")?) {
        (Some(_), Some(_)) => return Err(Problem::invalid("run_in", "give either `run_at` or `run_in`")),
        (Some(at), None) => When::At(at),
        (None, Some(delay)) => When::In(delay),
        (None, None) => When::Now,
    };
    task.expires_at = fields.instant("expires_at")?;
    task.idempotency_key = fields.text("idempotency_key")?;
    task.run_key = fields.text("run_key")?;
    task.concurrency_key = fields.text("concurrency_key")?;
    task.tags = fields.take("tags", "an object of texts")?.unwrap_or_default();
    // A current span with a trace takes precedence over the headers of the request.
    if !call.console().tasks().is_in_a_trace() {
        task.trace = trace_of(&call.parts.headers);
    }
    if let Some(retries) = fields.take("retries", "a whole number, at least 0")? {
        task.policy.to_mut().retries = retries;
    }
    if let Some(timeout) = fields.seconds("timeout")? {
        task.policy.to_mut().timeout = Some(timeout);
    }
    if let Some(eager) = fields.take("eager", "`true` or `false`")? {
        task.eager = eager;
    }
    Ok(task)
}
