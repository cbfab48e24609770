//! Acts on many tasks, and the operations that they start.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use axum::response::Response;
use http::StatusCode;
use http::header::{self, HeaderValue};
use serde_json::value::RawValue;

use super::body::{self, Fields};
use crate::admin::views::{Listed, OperationView, PreviewView};
use crate::admin::{Selection, Verb, grammar};
use crate::model::TaskId;
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

/// How long a request waits for its operation to end, before it answers 202.
const WITHIN: Duration = Duration::from_secs(1);

pub(super) async fn cancel(call: Call) -> Result<Response, Problem> {
    act(call, Verb::Cancel).await
}

pub(super) async fn retry(call: Call) -> Result<Response, Problem> {
    act(call, Verb::Retry).await
}

pub(super) async fn delete(call: Call) -> Result<Response, Problem> {
    act(call, Verb::Delete).await
}

async fn act(call: Call, verb: Verb) -> Result<Response, Problem> {
    let fields = ["filter", "ids", "dry_run", "frozen_at", "expect", "reason", "spread"];
    // Only a retry can be spread.
    let number = fields.len() - usize::from(verb != Verb::Retry);
    let mut fields = Fields::read(&call, &fields[..number]).await?;
    let spread = fields.seconds("spread")?;
    let frozen_at = fields.instant("frozen_at")?;
    // Relative times count from the instant of the preview, so that they mean the same as there.
    let selection = selection(&mut fields, frozen_at.unwrap_or_else(|| call.now()))?;
    let is_dry = fields.take("dry_run", "`true` or `false`")?.unwrap_or(false);
    let expect = fields.take::<u64>("expect", "a whole number, the `n` of the preview")?;
    let by = fields.by(&call)?;
    let console = call.console();
    if is_dry {
        let preview = console.preview(&call.actor, verb, &selection).await?;
        return Ok(json(StatusCode::OK, &PreviewView::of(&preview, call.now())));
    }
    let mut running = match spread {
        Some(spread) => console.begin_retry_over(&by, spread, selection, frozen_at, expect).await?,
        None => console.begin(&by, verb, selection, frozen_at, expect).await?,
    };
    let operation = running.within(WITHIN).await;
    let status = if operation.state.is_over() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = json(status, &OperationView::of(&operation));
    let location = format!("{}/api/v1/operations/{}", call.base, operation.id);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

fn selection(fields: &mut Fields, now: SystemTime) -> Result<Selection, Problem> {
    let filter =
        fields.take::<BTreeMap<String, Box<RawValue>>>("filter", "an object with the words of filters")?;
    let ids = fields.take::<Vec<String>>("ids", "a list of ids")?;
    match (filter, ids) {
        (Some(words), None) => Ok(Selection::Filter(grammar::filter_of_json(&words, now)?)),
        (None, Some(ids)) => {
            let parse = |(at, id): (usize, &String)| {
                let wrong = || Problem::invalid(&format!("ids[{at}]"), "it is not an id: an id is a UUID");
                id.parse().map_err(|_| wrong())
            };
            Ok(Selection::Ids(ids.iter().enumerate().map(parse).collect::<Result<Vec<TaskId>, _>>()?))
        }
        _ => Err(Problem::invalid("filter", "give either `filter` or `ids`")),
    }
}

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    let operations = call.console().operations(&call.actor).await?;
    Ok(json(StatusCode::OK, &Listed::all(operations.iter().map(OperationView::of).collect())))
}

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    let operation = call.console().operation(&call.actor, call.id()?).await?;
    Ok(json(StatusCode::OK, &OperationView::of(&operation)))
}

pub(super) async fn stop(call: Call) -> Result<Response, Problem> {
    let (id, by) = (call.id()?, body::by(&call).await?);
    let operation = call.console().stop_operation(&by, id).await?;
    Ok(json(StatusCode::OK, &OperationView::of(&operation)))
}

pub(super) async fn resume(call: Call) -> Result<Response, Problem> {
    let (id, by) = (call.id()?, body::by(&call).await?);
    let operation = call.console().resume_operation(&by, id).await?.now();
    Ok(json(StatusCode::ACCEPTED, &OperationView::of(&operation)))
}
