//! The frame of every page: navigation, environment, search, the state of the store.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::assets;
use super::words::{counted, length, number};
use crate::admin::Actor;
use crate::model::TaskStatus;
use crate::web::call::Call;
use crate::web::live::Beat;
use crate::web::problem::Problem;

/// The frame of one page.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) base: String,
    /// The address of the overview.
    pub(crate) home: String,
    pub(crate) site: Arc<str>,
    pub(crate) page: String,
    /// The key of the navigation item to which the page belongs.
    pub(crate) at: &'static str,
    pub(crate) environment: Option<String>,
    pub(crate) accent: &'static str,
    pub(crate) icon: String,
    pub(crate) css: &'static str,
    pub(crate) js: &'static str,
    pub(crate) search: String,
    /// The suggestions of the search box.
    pub(crate) words: Vec<String>,
    pub(crate) actor: String,
    pub(crate) role: &'static str,
    pub(crate) may_sign_out: bool,
    pub(crate) is_open: bool,
    pub(crate) nav: Vec<Item>,
    /// A sentence about the trouble of the store; empty while it is well.
    pub(crate) degraded: String,
    /// A sentence about what the last form did.
    pub(crate) notice: &'static str,
    pub(crate) version: &'static str,
}

/// One line of the navigation.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) key: &'static str,
    pub(crate) path: String,
    pub(crate) label: &'static str,
    pub(crate) icon: &'static str,
    pub(crate) count: String,
    pub(crate) is_bad: bool,
}

const NAV: [(&str, &str, &str, &str); 9] = [
    ("overview", "/", "Overview", "M2.500 13.500V9m3.700 4.500V3m3.700 10.500V6.500m3.700 7V10.500"),
    ("tasks", "/tasks", "Tasks", "M6 4h8M6 8h8M6 12h8M2.500 4h.01M2.500 8h.01M2.500 12h.01"),
    ("failures", "/failures", "Failures", "M8 2.500 14.500 13.500H1.500zM8 6.500v3.200M8 11.700h.01"),
    ("queues", "/queues", "Queues", "M8 2 14 5 8 8 2 5zM2 8l6 3 6-3M2 11l6 3 6-3"),
    ("schedules", "/schedules", "Schedules", "M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2zM8 4.800V8l2.200 1.400"),
    (
        "workers",
        "/workers",
        "Workers",
        "M2.500 3h11v4.300h-11zM2.500 8.700h11V13h-11zM5 5.150h.01M5 10.850h.01",
    ),
    ("types", "/types", "Types", "M5.500 4 2 8l3.500 4M10.500 4 14 8l-3.500 4"),
    ("audit", "/audit", "Audit", "M3.500 2h9v12h-9zM6 5.500h4M6 8h4M6 10.500h2.500"),
    ("operations", "/operations", "Operations", "M2 5h7M12 5h2M2 11h2M7 11h7M9 3v4h3V3zM4 9v4h3V9z"),
];

impl Frame {
    /// The frame of this page for this actor. Without a beat, the navigation has no numbers.
    pub(crate) fn new(call: &Call, page: impl Into<String>, at: &'static str, beat: Option<&Beat>) -> Self {
        let state = &call.state;
        let (environment, accent) = match &state.environment {
            Some((name, accent)) => (Some(name.clone()), accent.as_str()),
            None => (None, ""),
        };
        let values = beat.map(|beat| values(beat, &call.actor)).unwrap_or_default();
        let sees_audit = call.may(crate::admin::Permission::Audit);
        let nav = NAV
            .into_iter()
            .filter(|(key, ..)| *key != "audit" || sees_audit)
            .map(|(key, path, label, icon)| {
                let count = values.get(&format!("nav.{key}")).cloned().unwrap_or_default();
                let path =
                    if path == "/" { home(&call.base).to_owned() } else { format!("{}{path}", call.base) };
                Item { key, path, label, icon, count, is_bad: key == "failures" }
            })
            .collect();
        Self {
            base: call.base.clone(),
            home: home(&call.base).to_owned(),
            site: Arc::clone(&state.title),
            page: page.into(),
            at,
            environment,
            accent,
            icon: assets::icon_name(accent),
            css: &assets::CSS_NAME,
            js: &assets::JS_NAME,
            search: String::new(),
            words: beat.map(|beat| words(beat, &call.actor)).unwrap_or_default(),
            actor: call.actor.name().to_owned(),
            role: call.actor.role().map_or("", crate::admin::Role::as_str),
            may_sign_out: state.access.has_users(),
            is_open: state.access.is_open(),
            nav,
            degraded: degraded(call, beat),
            notice: call.field("did").and_then(notice).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// A sentence about the trouble of the store; empty while it is well.
pub(crate) fn degraded(call: &Call, beat: Option<&Beat>) -> String {
    let health = call.console().tasks().health();
    let away = beat.and_then(|beat| beat.away.clone());
    match health.degraded_since {
        Some(since) => {
            let lasted = super::words::between(since, call.now());
            let reason = health.reason.unwrap_or_default();
            format!(
                "The store has been in trouble for {}: {reason}. This process keeps trying.",
                length(lasted)
            )
        }
        None => away.map(|reason| format!("The store does not answer: {reason}")).unwrap_or_default(),
    }
}

/// The sentence about a form that has been carried out. `did` is the word for it in the URL.
fn notice(did: &str) -> Option<&'static str> {
    Some(match did {
        "retry" => "The task runs again.",
        "cancelled" => "The task is cancelled and never runs.",
        "requested" => "The task has been asked to stop.",
        "finished" => "The task had already ended.",
        "delete" => "The record is deleted.",
        "pause" => "The queue is paused in all processes.",
        "resume" => "The queue runs again.",
        "set" => "The limits are stored. They apply in all processes within a second.",
        "reset" => "The stored limits are removed. Each program applies its own.",
        "schedule-pause" => "The schedule is paused.",
        "schedule-resume" => "The schedule ticks again.",
        "schedule-remove" => "The schedule is removed.",
        "run" => "The task was added.",
        "add" => "The task is stored.",
        "duplicate" => "A task with this key exists already; nothing was added.",
        "stop" => "The operation stops after its current batch.",
        "go-on" => "The operation goes on.",
        _ => return None,
    })
}

/// The suggestions of the search box.
fn words(beat: &Beat, actor: &Actor) -> Vec<String> {
    // A search cannot name a key with a space or a colon.
    let is_word = |key: &String| !key.contains(|c: char| c.is_whitespace() || c == ':');
    let tags = beat.rare.tag_keys.seen_by(actor).into_iter().filter(is_word);
    let tags = tags.map(|key| format!("tag.{key}:")).take(50);
    let statuses = TaskStatus::ALL.iter().map(|status| format!("status:{status}"));
    let types = beat.types_seen_by(actor);
    let names = types.map(|task| format!("name:{}", quoted(&task.name)));
    let queues = beat.queues.iter().filter(|queue| actor.sees_queue(&queue.name));
    let queues = queues.map(|queue| format!("queue:{}", quoted(&queue.name)));
    statuses
        .chain(["since:1h".to_owned(), "phase:retrying".to_owned()])
        .chain(tags)
        .chain(names)
        .chain(queues)
        .take(200)
        .collect()
}

fn quoted(text: &str) -> String {
    let text = crate::admin::grammar::text([("x", text)]);
    text.strip_prefix("x:").unwrap_or(&text).to_owned()
}

/// One number with its state, as a link.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) key: String,
    pub(crate) class: &'static str,
    pub(crate) label: &'static str,
    pub(crate) title: &'static str,
    pub(crate) value: String,
    pub(crate) query: String,
}

/// The pending tasks that are not due yet.
pub(crate) struct NotDue {
    pub(crate) all: u64,
    /// Those that wait for another attempt; `None` if they could not be counted.
    retrying: Option<u64>,
}

impl NotDue {
    pub(crate) fn of(beat: &Beat) -> Self {
        // The queues are read after the counts. Meanwhile, more tasks may have been scheduled than were pending before.
        let all = beat.queues.iter().map(|queue| queue.scheduled).sum::<u64>().min(beat.counts.pending);
        Self { all, retrying: beat.rare.retrying }
    }

    /// How many wait for their first attempt, and how many for another one.
    pub(crate) fn split(&self) -> Option<(u64, u64)> {
        // The number of retries is read less often, so there may be fewer by now.
        let retrying = self.retrying?.min(self.all);
        Some((self.all - retrying, retrying))
    }
}

/// The numbers of all tasks by state, for this actor. They sum to the total.
pub(crate) fn strip(beat: &Beat, actor: &Actor) -> Vec<Cell> {
    let cell = |key: &str, class, label, title, n: u64, query: &str| Cell {
        key: format!("c.{key}"),
        class,
        label,
        title,
        value: number(n),
        query: query.to_owned(),
    };
    let seen = beat.queues.iter().filter(|queue| actor.sees_queue(&queue.name));
    let [mut pending, mut later, mut running, mut ended] = [0; 4];
    for queue in seen {
        pending += queue.pending;
        later += queue.scheduled;
        running += queue.running;
        ended += queue.finished;
    }
    let waiting = |pending: u64| pending.saturating_sub(later);
    let later_title = "Not due yet: first attempts, and retries after their back-off";
    if !actor.sees_all_queues() {
        return vec![
            cell(
                "waiting",
                "pending",
                "Waiting",
                "Due, and waiting to be started",
                waiting(pending),
                "?phase=waiting",
            ),
            cell("later", "scheduled", "Later", later_title, later, "?phase=scheduled&phase=retrying"),
            cell("running", "running", "Running", "Running now", running, "?status=running"),
            cell("ended", "success", "Ended", "Ended, in any way", ended, "?phase=ended"),
        ];
    }
    let counts = &beat.counts;
    let not_due = NotDue::of(beat);
    let waiting = cell(
        "waiting",
        "pending",
        "Waiting",
        "Due, and waiting to be started",
        counts.pending - not_due.all,
        "?phase=waiting",
    );
    let later = match not_due.split() {
        Some((scheduled, retrying)) => {
            let title = "The first attempt is not due yet";
            let first = cell("scheduled", "scheduled", "Scheduled", title, scheduled, "?phase=scheduled");
            let title = "An attempt failed, and the next one is not due yet";
            vec![first, cell("retrying", "retrying", "Retrying", title, retrying, "?phase=retrying")]
        }
        None => {
            let query = "?phase=scheduled&phase=retrying";
            vec![cell("later", "scheduled", "Later", later_title, not_due.all, query)]
        }
    };
    let mut strip = vec![waiting];
    strip.extend(later);
    strip.extend([
        cell("running", "running", "Running", "Running now", counts.running, "?status=running"),
        cell(
            "success",
            "success",
            "Succeeded",
            "Returned without an error",
            counts.success,
            "?status=success",
        ),
        cell("failed", "failed", "Failed", "Failed, or lost too often", counts.failed, "?status=failed"),
        cell(
            "interrupted",
            "interrupted",
            "Interrupted",
            "A crash, a shutdown or a lost lease interrupted it, and it may not run twice",
            counts.interrupted,
            "?status=interrupted",
        ),
        cell(
            "cancelled",
            "cancelled",
            "Cancelled",
            "Cancelled, or expired",
            counts.cancelled,
            "?status=cancelled",
        ),
        cell(
            "rejected",
            "rejected",
            "Rejected",
            "Its full queue refused it",
            counts.rejected,
            "?status=rejected",
        ),
    ]);
    strip
}

/// How many tasks of all queues failed, were interrupted or were rejected. Show it only to an actor that sees all queues.
pub(crate) fn needing_a_person(beat: &Beat) -> u64 {
    beat.counts.failed + beat.counts.interrupted + beat.counts.rejected
}

/// The most queues in one event of the pulse.
const MAX_QUEUES: usize = 24;

/// The numbers that pages keep current, by their keys. Of the queues, only the first 24 are among them.
pub(crate) fn values(beat: &Beat, actor: &Actor) -> BTreeMap<String, String> {
    let mut values: BTreeMap<_, _> =
        strip(beat, actor).into_iter().map(|cell| (cell.key, cell.value)).collect();
    let seen: Vec<_> = beat.queues.iter().filter(|queue| actor.sees_queue(&queue.name)).collect();
    let mut nav = |key: &str, n: u64| {
        values.insert(format!("nav.{key}"), if n == 0 { String::new() } else { number(n) });
    };
    nav("queues", seen.len() as u64);
    if actor.sees_all_queues() {
        nav("failures", needing_a_person(beat));
        nav("schedules", beat.rare.schedules.len() as u64);
    }
    nav("workers", beat.rare.workers.len() as u64);
    nav("types", beat.types_seen_by(actor).count() as u64);
    if actor.sees_all_queues() {
        values.insert("c.total".to_owned(), number(beat.counts.total()));
        values.insert("c.bad".to_owned(), number(needing_a_person(beat)));
    }
    values.insert("headline".to_owned(), headline(beat, actor));
    for queue in seen.iter().take(MAX_QUEUES) {
        let mut put = |key: &str, value: String| values.insert(format!("q.{}.{key}", queue.name), value);
        put("waiting", number(queue.waiting()));
        put("later", number(queue.scheduled));
        put("running", number(queue.running));
        put("oldest", queue.oldest_waiting.map_or("–".to_owned(), length));
        put("rate", number(queue.finished_last_minute));
    }
    values
}

/// The state of everything in one line.
pub(crate) fn headline(beat: &Beat, actor: &Actor) -> String {
    let seen = || beat.queues.iter().filter(|queue| actor.sees_queue(&queue.name));
    let rate = seen().map(|queue| queue.finished_last_minute).sum();
    let workers = beat.rare.workers.iter().filter(|worker| worker.runs).count() as u64;
    let mut parts = vec![format!("{} tasks/min", number(rate)), counted(workers, "worker")];
    if let Some(oldest) = seen().filter_map(|queue| queue.oldest_waiting).max() {
        parts.push(format!("oldest waiting {}", length(oldest)));
    }
    parts.join(" · ")
}

/// The path of the overview. axum does not call a nested router for its prefix with a slash, so the path ends without one.
pub(crate) fn home(base: &str) -> &str {
    if base.is_empty() { "/" } else { base }
}

/// A query string with its question mark; empty for no pairs.
pub(crate) fn query<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let mut any = false;
    for (key, value) in pairs {
        query.append_pair(key.as_ref(), value.as_ref());
        any = true;
    }
    if any { format!("?{}", query.finish()) } else { String::new() }
}

/// The characters that are percent-encoded in a segment of a path: all but ASCII letters, digits, `-`, `_`, `~` and `.`.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~').remove(b'.');

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// A page.
pub(crate) fn page(status: StatusCode, view: &impl Template) -> Result<Response, Problem> {
    Ok(html(status, render(view)?))
}

fn render(view: &impl Template) -> Result<String, Problem> {
    view.render().map_err(|error| {
        let title = "The page cannot be shown";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", title, error.to_string())
    })
}

fn html(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response
}

/// A page. A request with the field `part` comes from an open page that refreshes itself: it gets 304 if nothing has changed.
pub(crate) fn answer(call: &Call, view: &impl Template) -> Result<Response, Problem> {
    if call.field("part").is_some() { part(call, view) } else { page(StatusCode::OK, view) }
}

/// The answer to a refresh: the HTML, or 304 if the open page has it already. Ages (`12 s ago`) do not count as changes: the
/// script of the page updates them.
pub(crate) fn part(call: &Call, view: &impl Template) -> Result<Response, Problem> {
    let text = render(view)?;
    let mut hasher = DefaultHasher::new();
    for (at, piece) in text.split(" data-ago>").enumerate() {
        let piece = if at == 0 { piece } else { piece.split_once("</time>").map_or(piece, |(_, rest)| rest) };
        piece.hash(&mut hasher);
    }
    let tag = format!("\"{:016x}\"", hasher.finish());
    let mut response = match call.header(&header::IF_NONE_MATCH) == Some(&tag) {
        true => html(StatusCode::NOT_MODIFIED, String::new()),
        false => html(StatusCode::OK, text),
    };
    let tag = HeaderValue::try_from(tag).expect("hexadecimal digits are a header");
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_paths_and_query_strings() {
        assert_eq!(segment("a/b?c#d\" é"), "a%2Fb%3Fc%23d%22%20%C3%A9");
        assert_eq!(query([("tag.a b", "c&d=ü")]), "?tag.a+b=c%26d%3D%C3%BC");
        assert_eq!(query(Vec::<(&str, &str)>::new()), "");
    }
}
