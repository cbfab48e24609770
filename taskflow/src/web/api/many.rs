//! Acts on many tasks, and the operations that they become.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use axum::response::Response;
use http::StatusCode;
use http::header::{self, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;

use super::body::{self, Fields};
use super::row::{Listed, Row};
use crate::admin::{Operation, OperationState, Preview, Selection, Verb, grammar};
use crate::model::{TaskId, time};
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

/// How long a request waits for a short operation.
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
    let mut fields =
        Fields::read(&call, &["filter", "ids", "dry_run", "frozen_at", "expect", "reason"]).await?;
    let frozen_at = fields.instant("frozen_at")?;
    // Relative times mean the same as in the preview.
    let selection = selection(&mut fields, frozen_at.unwrap_or_else(|| call.now()))?;
    let is_dry = fields.take("dry_run", "`true` or `false`")?.unwrap_or(false);
    let expect = fields.take::<u64>("expect", "a whole number, the `n` of the preview")?;
    let by = fields.by(&call)?;
    let console = call.console();
    if is_dry {
        let preview = console.preview(&call.actor, verb, &selection).await?;
        return Ok(json(StatusCode::OK, &Previewed::of(&preview)));
    }
    let mut running = console.begin(&by, verb, selection, frozen_at, expect).await?;
    let operation = running.within(WITHIN).await;
    let status = if operation.state.is_over() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = json(status, &Shown::of(&operation));
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

#[derive(Serialize)]
struct Matching {
    n: u64,
    exact: bool,
}

#[derive(Serialize)]
struct Previewed<'a> {
    matching: Matching,
    #[serde(with = "time::rfc3339_serde")]
    frozen_at: SystemTime,
    sample: Vec<Row<'a>>,
    by_name: &'a BTreeMap<String, u64>,
}

impl<'a> Previewed<'a> {
    fn of(preview: &'a Preview) -> Self {
        Self {
            matching: Matching { n: preview.matching, exact: preview.exact },
            frozen_at: preview.frozen_at,
            sample: preview.sample.iter().map(Row::of).collect(),
            by_name: &preview.by_name,
        }
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    id: TaskId,
    verb: Verb,
    state: OperationState,
    /// As the search box writes it; `null` if it acts on chosen ids.
    filter: Option<String>,
    #[serde(with = "time::rfc3339_serde")]
    frozen_at: SystemTime,
    acted: u64,
    skipped: u64,
    of: u64,
    of_exact: bool,
    /// Tasks per second.
    rate: f64,
    #[serde(with = "time::seconds_option")]
    left: Option<Duration>,
    actor: &'a str,
    reason: Option<&'a str>,
    #[serde(with = "time::rfc3339_serde")]
    started_at: SystemTime,
    #[serde(with = "time::rfc3339_serde")]
    updated_at: SystemTime,
    error: Option<&'a str>,
}

impl<'a> Shown<'a> {
    fn of(operation: &'a Operation) -> Self {
        let words = operation.filter.iter().map(|(word, value)| (word.as_str(), value.as_str()));
        Self {
            id: operation.id,
            verb: operation.verb,
            state: operation.state,
            filter: Some(grammar::text(words)).filter(|words| !words.is_empty()),
            frozen_at: operation.frozen_at,
            acted: operation.acted,
            skipped: operation.skipped,
            of: operation.of,
            of_exact: operation.of_exact,
            rate: operation.rate(),
            left: operation.left(),
            actor: &operation.actor,
            reason: operation.reason.as_deref(),
            started_at: operation.started_at,
            updated_at: operation.updated_at,
            error: operation.error.as_deref(),
        }
    }
}

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    let operations = call.console().operations(&call.actor).await?;
    Ok(json(StatusCode::OK, &Listed::all(operations.iter().map(Shown::of).collect())))
}

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    let operation = call.console().operation(&call.actor, call.id()?).await?;
    Ok(json(StatusCode::OK, &Shown::of(&operation)))
}

pub(super) async fn stop(call: Call) -> Result<Response, Problem> {
    let (id, by) = (call.id()?, body::by(&call).await?);
    let operation = call.console().stop_operation(&by, id).await?;
    Ok(json(StatusCode::OK, &Shown::of(&operation)))
}

pub(super) async fn resume(call: Call) -> Result<Response, Problem> {
    let (id, by) = (call.id()?, body::by(&call).await?);
    let operation = call.console().resume_operation(&by, id).await?.now();
    Ok(json(StatusCode::ACCEPTED, &Shown::of(&operation)))
}
