//! The streams that keep open pages current: the pulse of all pages, and one task.

use std::sync::Arc;

use axum::body::Bytes;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use serde_json::json;

use super::rows::percent;
use crate::admin::Permission;
use crate::model::{LogLine, StatusUpdate, TaskUpdate, sealed, time};
use crate::web::call::Call;
use crate::web::dashboard::frame::{degraded, values};
use crate::web::dashboard::words;
use crate::web::problem::Problem;
use crate::web::stream::{answer, event, follow};

/// The numbers of all pages, as they change.
pub(crate) async fn pulse(call: Call) -> Result<Response, Problem> {
    let call = Arc::new(call);
    let beats = call.state.live.stream(call.console().tasks())?;
    let reader = Arc::clone(&call);
    let events = beats.map(move |(last, beat)| {
        let value = json!({
            "v": values(&beat, &reader.actor),
            "changed": last.is_some_and(|last| beat.differs(&last)),
            "degraded": degraded(&reader, Some(&beat)),
        });
        event("pulse", Some(beat.number), &value)
    });
    Ok(answer(call, events))
}

/// The log lines, the progress and the changes of one task, until it ends. `after` is the number of lines that the page has, and
/// `seen` the status that it shows, as [`shown`] writes it.
pub(crate) async fn task(call: Call) -> Result<Response, Problem> {
    let id = call.id()?;
    call.console().task(&call.actor, id).await?;
    let after = call.field("after").unwrap_or("0");
    let after = after.parse().map_err(|_| Problem::invalid("after", "it is not a number of lines"))?;
    let mut seen = call.field("seen").unwrap_or_default().to_owned();
    let may_logs = call.may(Permission::ViewLogs);
    let events = follow(&call, id, after)?.flat_map(move |(_, update)| {
        stream::iter(match update {
            TaskUpdate::Log(line) if may_logs => vec![log(&line)],
            TaskUpdate::Progress(it) => {
                let value = json!({ "percent": percent(it.fraction), "message": it.message });
                vec![event("progress", None, &value)]
            }
            TaskUpdate::Status(it) => status(&it, &mut seen),
            TaskUpdate::Gone => vec![event("gone", None, &json!({}))],
            // The frame of the page says that the store does not answer.
            TaskUpdate::Log(_) | TaskUpdate::Unavailable { .. } => Vec::new(),
        })
    });
    Ok(answer(Arc::new(call), events))
}

/// The parts of a status that a page shows. If they change, the page must be read again.
pub(crate) fn shown(status: &StatusUpdate) -> String {
    format!("{}.{}.{}", status.status, status.attempt, status.cancel_requested)
}

fn status(status: &StatusUpdate, seen: &mut String) -> Vec<Bytes> {
    let value = json!({ "status": status.status });
    let now = shown(status);
    let is_new = *seen != now;
    *seen = now;
    let news = is_new.then(|| event("status", None, &value));
    let end = status.status.is_final().then(|| event("end", None, &value));
    news.into_iter().chain(end).collect()
}

fn log(line: &LogLine) -> Bytes {
    let value = json!({
        "at": time::rfc3339(line.at),
        "clock": words::clock(line.at),
        "level": line.level,
        "message": sealed::shown(&line.message),
        "attempt": line.attempt,
    });
    event("log", None, &value)
}
