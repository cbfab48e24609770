//! The pulse of everything, as server-sent events.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::response::Response;
use http::header::{self, HeaderName, HeaderValue};
use serde::Serialize;

use crate::model::Counts;
use crate::web::call::Call;
use crate::web::live::{Beat, Viewer};
use crate::web::problem::Problem;

/// After how long without an event a comment shows that the stream lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How often the stream checks that its actor is still let in.
const RECHECK: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct Pulse<'a> {
    /// Of the whole store; `null` for an actor of some queues.
    counts: Option<Counts>,
    queues: BTreeMap<&'a str, Queue>,
    /// Whether tasks have changed since the last pulse.
    changed: bool,
    /// The error of the store, if it is away: the numbers are those of the last read.
    degraded: Option<&'a str>,
}

#[derive(Serialize)]
struct Queue {
    waiting: u64,
    scheduled: u64,
    running: u64,
    finished_last_minute: u64,
    paused: bool,
}

struct Watching {
    call: Call,
    viewer: Viewer,
    last: Option<Arc<Beat>>,
    checked: Instant,
}

/// The numbers of the store as they change. Whoever is slow gets the latest ones only.
pub(super) async fn pulse(call: Call) -> Result<Response, Problem> {
    let viewer = call
        .desk
        .live
        .watch(call.console().tasks())
        .ok_or_else(|| too_many("64 streams are open in this process"))?;
    let watching = Watching { call, viewer, last: None, checked: Instant::now() };
    Ok(stream(futures_util::stream::unfold(watching, |mut watching| async {
        let event = watching.next().await?;
        Some((Ok(event), watching))
    })))
}

impl Watching {
    async fn next(&mut self) -> Option<Bytes> {
        let next = tokio::time::timeout(KEEP_ALIVE, self.viewer.next()).await;
        if self.checked.elapsed() >= RECHECK {
            self.checked = Instant::now();
            if !is_let_in(&self.call).await {
                return None;
            }
        }
        let Ok(beat) = next else { return Some(Bytes::from_static(STILL_HERE)) };
        let beat = beat?;
        let actor = &self.call.actor;
        let queues = beat.queues.iter().filter(|queue| actor.sees_queue(&queue.name)).map(|queue| {
            let numbers = Queue {
                waiting: queue.waiting(),
                scheduled: queue.scheduled,
                running: queue.running,
                finished_last_minute: queue.finished_last_minute,
                paused: queue.paused,
            };
            (queue.name.as_str(), numbers)
        });
        let pulse = Pulse {
            counts: Some(beat.counts).filter(|_| actor.sees_all_queues()),
            queues: queues.collect(),
            changed: self.last.as_ref().is_some_and(|last| beat.differs(last)),
            degraded: beat.away.as_deref(),
        };
        let event = event("pulse", Some(beat.number), &pulse);
        self.last = Some(Arc::clone(&beat));
        Some(event)
    }
}

/// A comment, which shows that a stream lives.
pub(super) const STILL_HERE: &[u8] = b": still here\n\n";

/// Whether the actor of a stream is still let in. A store that does not answer ends no stream.
pub(super) async fn is_let_in(call: &Call) -> bool {
    match call.desk.access.actor(&call.parts, &call.desk.site).await {
        Ok(actor) => actor.as_ref() == Some(&call.actor),
        Err(problem) => problem.status.is_server_error(),
    }
}

/// 503, since others read all the streams that there may be.
pub(super) fn too_many(detail: impl Into<String>) -> Problem {
    let mut problem = Problem::degraded(detail);
    (problem.code, problem.title) = ("too_many", "Too many streams");
    problem
}

/// One event. JSON has no line breaks of its own.
pub(super) fn event<T: Serialize>(kind: &str, id: Option<u64>, data: &T) -> Bytes {
    let data = serde_json::to_string(data).expect("the value has no map with keys that are not text");
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    Bytes::from(format!("event: {kind}\n{id}data: {data}\n\n"))
}

/// The response of a stream, which the client drives: nothing is made before it takes it.
pub(super) fn stream(
    events: impl futures_util::Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
) -> Response {
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Some proxies hold answers back until they are complete.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}
