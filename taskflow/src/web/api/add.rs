//! Adding a task by its name.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use http::header::{self, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;

use super::body::Fields;
use crate::model::error::closest;
use crate::model::{NewTask, TaskId, TaskInfo, When};
use crate::web::call::{Call, json};
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
    /// Another task has the idempotency key; the id is its id, and nothing was added.
    duplicate: bool,
    /// The task with that run key was replaced.
    replacement: bool,
}

pub(super) async fn add(call: Call) -> Result<Response, Problem> {
    let mut fields = Fields::read(&call, &FIELDS).await?;
    let by = fields.by(&call)?;
    let task = new_task(&call, &mut fields).await?;
    let handle = call.console().add(&by, task).await.map_err(|error| {
        let mut problem = Problem::from(error);
        if problem.code == "unknown_queue" {
            // The queue is no part of the address, but a field.
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
    let known = call.console().tasks().tasks().await?;
    let info = known.iter().find(|info| info.name == name || info.aliases.contains(&name));
    let args = match info {
        Some(info) => {
            let args = args.map_or_else(|| "{}".to_owned(), |args| args.get().to_owned());
            if !is_forced {
                check(info, &args)?;
            }
            args
        }
        None if is_forced => args.map_or_else(|| "{}".to_owned(), |args| args.get().to_owned()),
        None => return Err(unknown(&name, &known)),
    };
    let mut task = match info {
        Some(info) => info.new_task(args),
        None => NewTask::new(name, Ok(Arc::from(args))),
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

/// Checks the names of the arguments. Their types are the program's.
fn check(info: &TaskInfo, args: &str) -> Result<(), Problem> {
    let args = serde_json::from_str::<BTreeMap<String, &RawValue>>(args)
        .map_err(|_| Problem::invalid("args", "it must be an object: each parameter by its name"))?;
    let names = || info.parameters.iter().map(|parameter| parameter.name.as_str());
    if let Some(name) = args.keys().find(|name| names().all(|known| known != name.as_str())) {
        let hint = closest(name, names()).map(|one| format!("; did you mean `{one}`?")).unwrap_or_default();
        let message = format!("the task `{}` has no such parameter{hint}", info.name);
        return Err(Problem::invalid(&format!("args.{name}"), message));
    }
    let is_missing = |name: &str| !args.contains_key(name);
    let missing = info.parameters.iter().find(|it| !it.is_optional && is_missing(&it.name));
    match missing {
        Some(it) => Err(Problem::invalid(
            &format!("args.{}", it.name),
            format!("it is missing: a `{}`", it.type_name),
        )),
        None => Ok(()),
    }
}

fn unknown(name: &str, known: &[TaskInfo]) -> Problem {
    let hint = closest(name, known.iter().map(|info| info.name.as_str()));
    let hint = hint.map_or_else(String::new, |one| format!("; did you mean `{one}`?"));
    let detail =
        format!("no live process knows the task `{name}`{hint} (`\"force\": true` adds it nevertheless)");
    Problem::new(StatusCode::CONFLICT, "unknown_task", "No process knows this task", detail)
        .with("field", "name")
}
