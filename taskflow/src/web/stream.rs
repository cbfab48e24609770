//! Server-sent events: what all streams share, those for pages and those for programs.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::{Stream, StreamExt, stream};
use http::header::{self, HeaderName, HeaderValue};
use serde::Serialize;

use super::call::Call;
use super::problem::Problem;
use super::router_state::MAX_FOLLOWED;
use crate::manager::Watching;
use crate::model::{TaskId, TaskUpdate};
use crate::seam::Instant;

/// After this long without an event, a comment is sent to show that the stream is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The comment.
const STILL_HERE: &[u8] = b": still here\n\n";

/// How often a stream checks that its actor is still let in.
const RECHECK: Duration = Duration::from_secs(60);

/// One event. Its JSON is one line, as `data` needs it.
pub(crate) fn event<T: Serialize>(kind: &str, id: Option<u64>, data: &T) -> Bytes {
    let data = serde_json::to_string(data).expect("the value has no map with keys that are not text");
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    Bytes::from(format!("event: {kind}\n{id}data: {data}\n\n"))
}

/// The response that sends these events. The next event is made only when the client can take it. The response ends when the
/// actor is no longer let in.
pub(crate) fn answer(call: Arc<Call>, events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let checked = call.seam().instant();
    let watching = call.console().tasks().faces().watch();
    let open = Open { call, events: Box::pin(events), checked, _watching: watching };
    let body = stream::unfold(open, |mut open| async {
        let bytes = open.next().await?;
        Some((Ok::<_, Infallible>(bytes), open))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Some proxies hold answers back until they are complete.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

struct Open {
    call: Arc<Call>,
    events: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
    checked: Instant,
    _watching: Watching,
}

impl Open {
    async fn next(&mut self) -> Option<Bytes> {
        let seam = self.call.seam();
        let next = seam.timeout(KEEP_ALIVE, self.events.next()).await;
        if seam.since(self.checked) >= RECHECK {
            self.checked = seam.instant();
            if !is_let_in(&self.call).await {
                return None;
            }
        }
        next.unwrap_or(Some(Bytes::from_static(STILL_HERE)))
    }
}

/// Whether the actor of a stream is still let in, with the same permissions. A store that does not answer ends no stream.
async fn is_let_in(call: &Call) -> bool {
    match call.state.access.actor(&call.parts, &call.state.site).await {
        Ok(actor) => actor.as_ref() == Some(&call.actor),
        Err(problem) => problem.status.is_server_error(),
    }
}

/// What happens to a task, each update with the number of its log lines so far. The first `after` lines are left out. The task is
/// watched only once the stream is read.
///
/// # Errors
/// 503 if this router has 64 open streams of tasks.
pub(crate) fn follow(
    call: &Call,
    id: TaskId,
    after: usize,
) -> Result<impl Stream<Item = (usize, TaskUpdate)> + Send + use<>, Problem> {
    let permit = Arc::clone(&call.state.followed).try_acquire_owned().map_err(|_| {
        Problem::too_many_streams(format!("this router has {MAX_FOLLOWED} open streams of tasks"))
    })?;
    let tasks = call.console().tasks().clone();
    let updates = stream::once(async move { tasks.watch(id) }).flatten();
    let mut lines = 0;
    Ok(updates.filter_map(move |update| {
        let _stays = &permit;
        lines += usize::from(matches!(update, TaskUpdate::Log(_)));
        let is_known = matches!(update, TaskUpdate::Log(_)) && lines <= after;
        std::future::ready((!is_known).then_some((lines, update)))
    }))
}
