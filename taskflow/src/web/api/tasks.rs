//! Tasks: lists, counts, one task, and what may be done to it.

use axum::body::Body;
use axum::response::Response;
use http::header::{self, HeaderValue};
use http::{StatusCode, header::IF_NONE_MATCH};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::body;
use super::query::{cursor, filter, limit, number, order, word};
use crate::admin::tag_keys::TagKeys;
use crate::admin::views::{Listed, NumberedLine, TaskRow, WholeTask};
use crate::model::{CancelOutcome, Count, TaskFilter, TaskRecord};
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    let is_full = word(&call, "view", &["row", "full"])? == Some("full");
    // Whole records may be large.
    let mut filter =
        filter(&call).await?.limit(limit(&call, if is_full { 100 } else { TaskFilter::MAX_LIMIT })?);
    filter.after = cursor(&call)?;
    filter.order = order(&call)?;
    let tasks = call.console().tasks();
    if is_full {
        let page = tasks.list(filter).await?;
        let items = page.items.into_iter().map(|record| whole(&call, record)).collect();
        return Ok(json(StatusCode::OK, &Listed { items, next: page.next }));
    }
    let page = tasks.list_outlines(&filter).await?;
    Ok(json(StatusCode::OK, &Listed::rows(&page, call.now())))
}

/// The task as the actor may see it.
fn whole(call: &Call, record: TaskRecord) -> WholeTask {
    WholeTask::of(&call.actor, call.state.shown(&call.actor, record), call.now())
}

pub(super) async fn count(call: Call) -> Result<Response, Problem> {
    let up_to = number(&call, "up_to", 1..=TaskFilter::MAX_LOOKED_AT)?.unwrap_or(Count::UP_TO);
    let filter = filter(&call).await?;
    Ok(json(StatusCode::OK, &call.console().tasks().count(filter, up_to).await?))
}

#[derive(Serialize)]
struct Names {
    names: Vec<String>,
    queues: Vec<String>,
    tag_keys: Vec<String>,
}

/// Names of tasks, queues and tag keys that contain a text. They come from the list of known tasks, the queues and the newest
/// tasks, so no search is needed.
pub(super) async fn names(call: Call) -> Result<Response, Problem> {
    let text = call.field("q").unwrap_or_default().to_lowercase();
    let holds = |name: &String| name.to_lowercase().contains(&text);
    let tasks = call.console().tasks();
    let known = tasks.tasks().await?;
    let names = known.into_iter().filter(|task| call.actor.sees_queue(&task.queue)).map(|task| task.name);
    let queues = tasks.queues().await?.into_iter().map(|queue| queue.name);
    let queues = queues.filter(|queue| call.actor.sees_queue(queue));
    let mut tag_keys = TagKeys::read(tasks).await?.seen_by(&call.actor);
    tag_keys.retain(holds);
    let names =
        Names { names: names.filter(holds).collect(), queues: queues.filter(holds).collect(), tag_keys };
    Ok(json(StatusCode::OK, &names))
}

/// A whole task. A client may cache it, but must ask with its `ETag` each time whether it is still current.
pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    let record = call.console().task(&call.actor, call.id()?).await?;
    let mut response = json(StatusCode::OK, &whole(&call, record));
    let bytes = axum::body::to_bytes(std::mem::take(response.body_mut()), usize::MAX).await;
    let bytes = bytes.expect("the body is in memory");
    let hash = Sha256::digest(&bytes);
    let tag = hash[..16].iter().fold("\"".to_owned(), |tag, byte| format!("{tag}{byte:02x}")) + "\"";
    if call.header(&IF_NONE_MATCH).is_some_and(|tags| tags.split(',').any(|one| one.trim() == tag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().remove(header::CONTENT_TYPE);
    } else {
        *response.body_mut() = Body::from(bytes);
    }
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::try_from(tag).expect("hexadecimal digits"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

#[derive(Serialize)]
struct Cancelled<'a> {
    outcome: CancelOutcome,
    task: TaskRow<'a>,
}

pub(super) async fn cancel(call: Call) -> Result<Response, Problem> {
    let (id, by) = (call.id()?, body::by(&call).await?);
    let outcome = call.console().cancel(&by, id).await?;
    let task = call.console().task(&call.actor, id).await?;
    Ok(json(StatusCode::OK, &Cancelled { outcome, task: TaskRow::of(&task, call.now()) }))
}

pub(super) async fn retry(call: Call) -> Result<Response, Problem> {
    let (id, by) = (call.id()?, body::by(&call).await?);
    call.console().retry(&by, id).await?;
    let task = call.console().task(&call.actor, id).await?;
    Ok(json(StatusCode::OK, &TaskRow::of(&task, call.now())))
}

#[derive(Serialize)]
struct Opened {
    task: WholeTask,
    lines: Vec<NumberedLine>,
}

/// An actor with the permission for this may see everything, so nothing is redacted.
pub(super) async fn open(call: Call) -> Result<Response, Problem> {
    let (id, by) = (call.id()?, body::by(&call).await?);
    let opened = call.console().open(&by, id).await?;
    let lines = opened.lines.into_iter().enumerate().map(|(at, line)| NumberedLine::new(at + 1, line));
    let task = WholeTask::of(&call.actor, opened.record, call.now());
    Ok(json(StatusCode::OK, &Opened { task, lines: lines.collect() }))
}

pub(super) async fn delete(call: Call) -> Result<Response, Problem> {
    let (id, by) = (call.id()?, body::by(&call).await?);
    call.console().delete(&by, id).await?;
    Ok(empty())
}

/// The answer 204, without a body.
pub(super) fn empty() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
