//! The log of a task.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{self, HeaderValue};
use serde::Serialize;

use super::query::{limit, number, word};
use crate::admin::views::NumberedLine;
use crate::admin::{AdminError, Console};
use crate::model::{LogLevel, TaskId, time};
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

/// The most lines of a page.
const MAX_LINES: usize = 1000;

const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];

#[derive(Serialize)]
struct Lines {
    lines: Vec<NumberedLine>,
    /// The `after` of the next page; `null` on the last one.
    next: Option<usize>,
}

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    let id = call.id()?;
    let after = number(&call, "after", 0..=usize::MAX)?.unwrap_or(0);
    let attempt = number(&call, "attempt", 1..=u32::MAX as usize)?;
    let level = word(&call, "level", &LEVELS)?.and_then(LogLevel::from_word);
    let limit = limit(&call, MAX_LINES)?;
    call.console().task(&call.actor, id).await?;
    let mut lines = after_line(call.console(), id, after).await?;
    lines.retain(|line| {
        attempt.is_none_or(|attempt| line.attempt as usize == attempt)
            && level.is_none_or(|level| line.level >= level)
    });
    if call.header(&header::ACCEPT).is_some_and(|accept| accept.starts_with("text/plain")) {
        let text = lines.iter().map(|line| {
            let at = time::rfc3339(line.at);
            format!("{at} {:5} {}\n", line.level.as_str().to_uppercase(), line.message)
        });
        let mut response = Response::new(Body::from(text.collect::<String>()));
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        return Ok(response);
    }
    let is_last = lines.len() <= limit;
    lines.truncate(limit);
    let next = lines.last().filter(|_| !is_last).map(|line| line.n);
    Ok(json(StatusCode::OK, &Lines { lines, next }))
}

/// The lines of a task after the one with this number.
async fn after_line(console: &Console, id: TaskId, after: usize) -> Result<Vec<NumberedLine>, AdminError> {
    let lines = console.tasks().logs(id).await?.ok_or(AdminError::NoTask { id })?;
    Ok(lines.into_iter().enumerate().skip(after).map(|(at, line)| NumberedLine::new(at + 1, line)).collect())
}
