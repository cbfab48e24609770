//! The streams that keep open pages current: the pulse of all pages, and one task.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::rows::percent;
use crate::TaskId;
use crate::admin::Permission;
use crate::model::{LogLine, TaskRecord, time};
use crate::web::call::Call;
use crate::web::dashboard::frame::{degraded, values};
use crate::web::dashboard::words;
use crate::web::live::{Beat, Viewer};
use crate::web::problem::Problem;

/// How often a stream checks that its actor is still let in.
const CHECK: Duration = Duration::from_secs(60);

/// The rest between two reads of a running task, and how many times as long as a read it is at least.
const TASK_REST: (Duration, u32) = (Duration::from_millis(500), 20);

/// How long the stream of a task waits at most between two reads.
const TASK_REST_MOST: Duration = Duration::from_secs(10);

fn answer(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let alive = KeepAlive::new().interval(Duration::from_secs(15));
    let mut response = Sse::new(events).keep_alive(alive).into_response();
    // Some proxies hold answers back until they are complete.
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether the actor of this stream is still let in. A store that does not answer ends no stream.
async fn is_let_in(call: &Call, checked: &mut Instant) -> bool {
    if checked.elapsed() < CHECK {
        return true;
    }
    *checked = Instant::now();
    match call.desk.access.actor(&call.parts, &call.desk.site).await {
        Ok(actor) => actor.as_ref() == Some(&call.actor),
        Err(problem) => problem.status == StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn event<T: Serialize>(name: &str, value: &T) -> Event {
    let json = serde_json::to_string(value).expect("the value has no map with keys that are not text");
    Event::default().event(name).data(json)
}

struct Pulse {
    call: Call,
    viewer: Viewer,
    last: Option<Arc<Beat>>,
    checked: Instant,
}

/// The numbers of all pages, as they change.
pub(crate) async fn pulse(call: Call) -> Result<Response, Problem> {
    let Some(viewer) = call.desk.live.watch(call.console().tasks()) else {
        let detail = "64 pages of this process are live already; this one asks every 5 s instead";
        let mut problem = Problem::degraded(detail);
        problem.retry_after = Some(5);
        return Err(problem);
    };
    let pulse = Pulse { call, viewer, last: None, checked: Instant::now() };
    Ok(answer(stream::unfold(pulse, |mut pulse| async move {
        // Also without news, so that a stream of a session that has ended does not stay open.
        let beat = loop {
            let next = tokio::time::timeout(CHECK, pulse.viewer.next()).await;
            if !is_let_in(&pulse.call, &mut pulse.checked).await {
                return None;
            }
            match next {
                Ok(beat) => break beat?,
                Err(_) => continue,
            }
        };
        let changed = pulse.last.as_ref().is_none_or(|last| beat.differs(last));
        let value = json!({
            "v": values(&beat, &pulse.call.actor),
            "changed": changed && pulse.last.is_some(),
            "degraded": degraded(&pulse.call, Some(&beat)),
        });
        let event = event("pulse", &value).id(beat.number.to_string());
        pulse.last = Some(beat);
        Some((Ok(event), pulse))
    })))
}

struct Following {
    call: Call,
    id: TaskId,
    /// How many lines the page has.
    after: usize,
    waiting: VecDeque<Event>,
    /// What the page shows of the record.
    seen: Option<String>,
    progress: Option<String>,
    rest: Duration,
    is_over: bool,
    is_first: bool,
    checked: Instant,
}

/// The log lines, the progress and the changes of one task, until it ends.
pub(crate) async fn task(call: Call) -> Result<Response, Problem> {
    let id = call.id()?;
    call.console().task(&call.actor, id).await?;
    let after = call.field("after").unwrap_or("0");
    let after = after.parse().map_err(|_| Problem::invalid("after", "it is not a number of lines"))?;
    let following = Following {
        call,
        id,
        after,
        waiting: VecDeque::new(),
        seen: None,
        progress: None,
        rest: Duration::ZERO,
        is_over: false,
        is_first: true,
        checked: Instant::now(),
    };
    Ok(answer(stream::unfold(following, |mut following| async move {
        loop {
            if let Some(event) = following.waiting.pop_front() {
                return Some((Ok(event), following));
            }
            if following.is_over {
                return None;
            }
            tokio::time::sleep(following.rest).await;
            if !is_let_in(&following.call, &mut following.checked).await {
                return None;
            }
            following.read().await;
        }
    })))
}

impl Following {
    async fn read(&mut self) {
        let began = Instant::now();
        let answer = self.changes().await;
        self.rest = (began.elapsed() * TASK_REST.1).clamp(TASK_REST.0, TASK_REST_MOST);
        // The next read may succeed; the strip of the page says that the store is away.
        if answer.is_err() {
            self.rest = TASK_REST_MOST;
        }
    }

    async fn changes(&mut self) -> Result<(), Problem> {
        let tasks = self.call.console().tasks();
        // The record first: the lines of a task that has ended are then complete.
        let record = match self.call.console().task(&self.call.actor, self.id).await {
            Ok(record) => record,
            Err(error) => {
                let problem = Problem::from(error);
                if problem.status == StatusCode::NOT_FOUND {
                    self.is_over = true;
                    self.waiting.push_back(event("gone", &json!({})));
                }
                return Err(problem);
            }
        };
        if self.call.may(Permission::ViewLogs) {
            let lines = tasks.logs(self.id).await?.unwrap_or_default();
            for line in lines.iter().skip(self.after) {
                self.waiting.push_back(log_event(line));
            }
            self.after = self.after.max(lines.len());
        }
        if let Some(progress) = &record.progress {
            let value =
                json!({ "percent": percent(progress.fraction), "message": progress.message }).to_string();
            if self.progress.as_ref() != Some(&value) {
                self.waiting.push_back(Event::default().event("progress").data(value.clone()));
                self.progress = Some(value);
            }
        }
        let seen = fingerprint(&record);
        if self.seen.as_ref() != Some(&seen) && !std::mem::take(&mut self.is_first) {
            self.waiting.push_back(event("status", &json!({ "status": record.status })));
        }
        self.seen = Some(seen);
        if record.status.is_final() {
            self.is_over = true;
            self.waiting.push_back(event("end", &json!({ "status": record.status })));
        }
        Ok(())
    }
}

fn log_event(line: &LogLine) -> Event {
    let value = json!({
        "at": time::rfc3339(line.at),
        "clock": words::clock(line.at),
        "level": line.level,
        "message": line.message,
        "attempt": line.attempt,
    });
    event("log", &value)
}

/// What changes when the page must be read again.
fn fingerprint(record: &TaskRecord) -> String {
    let has_progress = record.progress.is_some();
    format!(
        "{} {} {} {has_progress} {}",
        words::state(record).word,
        record.attempt,
        record.attempts.len(),
        record.cancel_requested
    )
}
