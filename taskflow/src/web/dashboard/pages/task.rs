//! One task: its state in a sentence, its life, attempts, log lines, arguments, result and facts.

use std::time::SystemTime;

use askama::Template;
use askama::filters::HtmlSafe;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};

use super::events;
use super::rows::{Tag, percent, tags};
use crate::admin::Permission;
use crate::model::{
    CancelOutcome, LogLevel, LogLine, StatusUpdate, TaskInfo, TaskRecord, TaskSource, TaskStatus,
    TraceContext, sealed, time,
};
use crate::web::call::{Call, see_other};
use crate::web::dashboard::chart::{self, Histogram, Life};
use crate::web::dashboard::frame::{self, Frame, query, segment};
use crate::web::dashboard::json::{self, Pretty};
use crate::web::dashboard::words::{self, Mark, When, between, counted, length, number};
use crate::web::dashboard::{history, sentence};
use crate::web::problem::Problem;

/// How many attempts the page shows: the newest ones.
const ATTEMPTS: usize = 100;

#[derive(Template)]
#[template(path = "task.html")]
struct View {
    f: Frame,
    body: TaskBody,
}

/// The page without its frame.
#[derive(Template)]
#[template(path = "task_body.html")]
struct TaskBody {
    base: String,
    id: String,
    name: String,
    mark: Mark,
    is_ended: bool,
    sentence: String,
    cancel_sentence: &'static str,
    progress: Option<(u8, String)>,
    life: Life,
    attempts: Vec<Attempt>,
    hidden_attempts: usize,
    levels: Vec<Level>,
    level: &'static str,
    logs: Vec<Line>,
    log_count: usize,
    /// The status that this page shows, as [`events::shown`] writes it.
    seen: String,
    last_attempt: u32,
    no_logs: &'static str,
    args: Option<Pretty>,
    args_size: String,
    no_args: &'static str,
    result: Option<Pretty>,
    result_size: String,
    error: Option<String>,
    facts: Vec<Fact>,
    tags: Vec<Tag>,
    links: Vec<(String, String)>,
    histogram: Option<Histogram>,
    histogram_text: String,
    may_open: bool,
    may_retry: bool,
    may_cancel: bool,
    may_delete: bool,
    may_logs: bool,
}

// The template escapes its own fields.
impl HtmlSafe for TaskBody {}

struct Attempt {
    number: u32,
    mark: Mark,
    worker: String,
    instance: String,
    started: String,
    date: String,
    took: String,
    line: String,
    error: String,
    has_more: bool,
}

struct Level {
    label: &'static str,
    query: String,
    is_current: bool,
}

struct Line {
    level: &'static str,
    clock: String,
    exact: String,
    message: String,
    attempt: u32,
    worker: String,
    is_first: bool,
}

struct Fact {
    label: &'static str,
    text: String,
    href: String,
    when: Option<When>,
}

pub(crate) async fn show(call: Call) -> Result<Response, Problem> {
    let id = call.id()?;
    let mut record = call.console().task(&call.actor, id).await?;
    let may_logs = call.may(Permission::ViewLogs);
    let logs = if may_logs { call.console().tasks().logs(id).await? } else { None };
    let mut logs = logs.unwrap_or_default();
    let has_keys = call.console().can_open() && call.may(Permission::ViewSecrets);
    let may_open = has_keys
        && (record.sealed_with().is_some() || logs.iter().any(|line| sealed::is_sealed(&line.message)));
    record.hide_sealed();
    logs.iter_mut().for_each(LogLine::hide_sealed);
    page(&call, record, &logs, may_open).await
}

/// The page with the sealed parts opened. It is the answer to a POST, so no URL shows it again.
pub(crate) async fn open(call: Call) -> Result<Response, Problem> {
    let opened = call.console().open(&call.by(), call.id()?).await?;
    page(&call, opened.record, &opened.lines, false).await
}

async fn page(
    call: &Call,
    record: TaskRecord,
    logs: &[LogLine],
    may_open: bool,
) -> Result<Response, Problem> {
    let tasks = call.console().tasks();
    let now = call.now();
    let beat = call.state.live.beat(tasks).await?;
    let info =
        beat.rare.types.iter().find(|task| task.name == record.name || task.aliases.contains(&record.name));
    let ran = record.attempts.last().and_then(|it| it.finished_at.map(|end| between(it.started_at, end)));
    let (histogram, histogram_text) = history::run_times(call, &record.name, ran).await;
    let body =
        TaskBody { histogram, histogram_text, may_open, ..TaskBody::new(call, record, logs, info, now)? };
    if call.field("part") == Some("body") {
        return frame::part(call, &body);
    }
    let f = Frame::new(call, body.name.clone(), "tasks", Some(&beat));
    frame::answer(call, &View { f, body })
}

impl TaskBody {
    fn new(
        call: &Call,
        record: TaskRecord,
        logs: &[LogLine],
        info: Option<&TaskInfo>,
        now: SystemTime,
    ) -> Result<Self, Problem> {
        let level = match call.field("level") {
            None | Some("all") => None,
            Some(word) => Some(
                LogLevel::from_word(word)
                    .ok_or_else(|| Problem::invalid("level", "it is `debug`, `info`, `warn` or `error`"))?,
            ),
        };
        let is_ended = record.status.is_final();
        let is_blocking = info.map(|info| info.is_blocking);
        let facts = facts(&record, now);
        let links = call.state.links.iter();
        let links = links.filter(|link| record.trace.is_some() || !link.template.contains("{trace_id}"));
        let links = links.map(|link| (link.label.clone(), filled(&link.template, &record)));
        let links =
            links.filter(|(_, url)| url.starts_with("https://") || url.starts_with("http://")).collect();
        let progress = record.progress.as_ref().filter(|_| record.status == TaskStatus::Running);
        let may_args = call.may(Permission::ViewArgs);
        let body = Self {
            base: call.base.clone(),
            id: record.id.to_string(),
            name: record.name.clone(),
            mark: words::state(&record, now),
            is_ended,
            sentence: sentence::of(&record, is_blocking, now),
            cancel_sentence: sentence::of_cancel(&record, is_blocking),
            progress: progress.map(|it| (percent(it.fraction), it.message.clone())),
            life: chart::life(&record, now),
            hidden_attempts: record.attempts.len().saturating_sub(ATTEMPTS),
            attempts: record.attempts.iter().rev().take(ATTEMPTS).map(|it| attempt(it, now)).collect(),
            levels: levels(level),
            level: level.map_or("", LogLevel::as_str),
            logs: lines(&record, logs, level),
            log_count: logs.len(),
            seen: events::shown(&StatusUpdate::of(&record)),
            last_attempt: logs.last().map_or(0, |line| line.attempt),
            no_logs: match (logs.is_empty(), is_ended) {
                (true, true) => "It logged nothing.",
                (true, false) => "Nothing is logged yet.",
                (false, _) => "No line has this level.",
            },
            error: record.error.clone().filter(|error| error.len() > 160 || error.contains('\n')),
            facts,
            tags: tags(&record).collect(),
            links,
            histogram: None,
            histogram_text: String::new(),
            may_open: false,
            may_retry: call.may(Permission::Retry) && is_ended && record.status != TaskStatus::Success,
            may_cancel: call.may(Permission::Cancel) && !is_ended && !record.cancel_requested,
            may_delete: call.may(Permission::DeleteOne) && is_ended,
            may_logs: call.may(Permission::ViewLogs),
            args: None,
            args_size: String::new(),
            no_args: if may_args { "It takes none." } else { "You may not see arguments." },
            result: None,
            result_size: String::new(),
        };
        let shown = call.state.shown(&call.actor, record);
        let args = Some(shown.args.get()).filter(|args| may_args && !matches!(args.trim(), "{}" | "null"));
        let args = args.map(json::pretty);
        let result = shown.result.as_ref().map(|json| json::pretty(json.get())).filter(|_| may_args);
        let size =
            |json: &Option<Pretty>| json.as_ref().map(|json| words::size(json.size)).unwrap_or_default();
        Ok(Self { args_size: size(&args), result_size: size(&result), args, result, ..body })
    }
}

fn attempt(it: &crate::model::Attempt, now: SystemTime) -> Attempt {
    let error = it.error.clone().unwrap_or_default();
    let line = words::first_line(&error, 140);
    Attempt {
        number: it.number,
        mark: words::outcome(it.outcome),
        worker: worker(&it.host, it.pid),
        instance: format!("instance {}", it.instance),
        started: words::clock(it.started_at),
        date: words::instant(it.started_at),
        took: length(between(it.started_at, it.finished_at.unwrap_or(now))),
        has_more: error.trim() != line,
        line,
        error,
    }
}

/// `host:pid`, as far as the store knows the process.
pub(super) fn worker(host: &str, pid: u32) -> String {
    match (host, pid) {
        ("", _) => "unknown".to_owned(),
        (host, 0) => host.to_owned(),
        (host, pid) => format!("{host}:{pid}"),
    }
}

fn levels(current: Option<LogLevel>) -> Vec<Level> {
    let words =
        [None, Some(LogLevel::Debug), Some(LogLevel::Info), Some(LogLevel::Warn), Some(LogLevel::Error)];
    let levels = words.map(|level| Level {
        label: level.map_or("all", LogLevel::as_str),
        query: query(level.map(|level| ("level", level.as_str()))),
        is_current: level == current,
    });
    levels.into()
}

/// The lines of this level and above.
fn lines(record: &TaskRecord, logs: &[LogLine], level: Option<LogLevel>) -> Vec<Line> {
    let mut last = None;
    let wanted = logs.iter().filter(|line| level.is_none_or(|level| line.level >= level));
    let lines = wanted.map(|line| {
        let is_first = last.replace(line.attempt) != Some(line.attempt);
        let ran = record.attempts.iter().rev().find(|it| is_first && it.number == line.attempt);
        Line {
            level: line.level.as_str(),
            clock: words::clock(line.at),
            exact: time::rfc3339(line.at),
            message: line.message.clone(),
            attempt: line.attempt,
            worker: ran.map(|it| worker(&it.host, it.pid)).unwrap_or_default(),
            is_first,
        }
    });
    lines.collect()
}

fn facts(record: &TaskRecord, now: SystemTime) -> Vec<Fact> {
    let plain = |label, text: String| Fact { label, text, href: String::new(), when: None };
    let link = |label, text: &str, href: String| Fact { label, text: text.to_owned(), href, when: None };
    let at = |label, at: SystemTime, text: &str| Fact {
        label,
        text: text.to_owned(),
        href: String::new(),
        when: Some(words::when(at, now)),
    };
    let same = |word: &str, key: &str| format!("tasks{}", query([(word, key), ("name", &record.name)]));
    let mut facts = vec![
        link("Queue", &record.queue, format!("queues/{}", segment(&record.queue))),
        link("Type", &record.name, format!("types/{}", segment(&record.name))),
        plain("Priority", record.priority.to_string()),
        plain("Attempts", format!("{} of {}", record.attempt, record.max_attempts)),
    ];
    let source = match record.source {
        TaskSource::Request => "by a request",
        TaskSource::Schedule => "by its schedule",
        TaskSource::Manager => "by a program",
    };
    facts.push(at("Added", record.created_at, source));
    facts.extend(record.scheduled_for.map(|due| at("Scheduled for", due, "")));
    if record.status == TaskStatus::Pending {
        facts.push(at("Due", record.run_at, ""));
    }
    facts.extend(record.started_at.map(|began| at("Began", began, "")));
    facts.extend(record.finished_at.map(|ended| at("Ended", ended, "")));
    facts.extend(record.expires_at.map(|end| at("Not started after", end, "")));
    facts.extend(record.timeout.map(|timeout| plain("Timeout", length(timeout))));
    if let Some(key) = &record.idempotency_key {
        facts.push(link("Idempotency key", key, same("key", key)));
    }
    let of = |word: &str, value: &str| format!("tasks{}", query([(word, value)]));
    facts.extend(record.run_key.as_ref().map(|key| link("Run key", key, of("run_key", key))));
    let concurrency_key = record.concurrency_key.as_ref();
    facts.extend(concurrency_key.map(|key| link("Concurrency key", key, of("concurrency_key", key))));
    let trace = record.trace.as_ref().map(TraceContext::trace_id);
    facts.extend(trace.map(|trace| link("Trace", &trace, of("trace", &trace))));
    if record.snoozes > 0 {
        facts.push(plain("Snoozes", number(u64::from(record.snoozes))));
    }
    let retries = record.attempts.len().saturating_sub(1) as u64;
    if retries > 0 {
        facts.push(plain("Runs", counted(record.attempts.len() as u64, "run")));
    }
    facts
}

/// The URL of a link for this task. A tag that the task lacks is empty.
fn filled(template: &str, record: &TaskRecord) -> String {
    let mut url = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        url.push_str(before);
        let Some((word, after)) = after.split_once('}') else {
            url.push('{');
            rest = after;
            continue;
        };
        let value = match word {
            "name" => Some(record.name.clone()),
            "queue" => Some(record.queue.clone()),
            "id" => Some(record.id.to_string()),
            "trace_id" => record.trace.as_ref().map(TraceContext::trace_id),
            word => word.strip_prefix("tag.").map(|key| record.tags.get(key).cloned().unwrap_or_default()),
        };
        match value {
            Some(value) => url.push_str(&segment(&value)),
            None => url.extend(["{", word, "}"]),
        }
        rest = after;
    }
    url.push_str(rest);
    url
}

/// All log lines as plain text.
pub(crate) async fn log_file(call: Call) -> Result<Response, Problem> {
    let id = call.id()?;
    call.console().task(&call.actor, id).await?;
    let logs = call.console().tasks().logs(id).await?.unwrap_or_default();
    let mut text = String::new();
    for mut line in logs {
        line.hide_sealed();
        let at = time::rfc3339(line.at);
        text.push_str(&format!("{at} {:5} attempt {} {}\n", line.level.as_str(), line.attempt, line.message));
    }
    let mut response = Response::new(Body::from(text));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    let name = format!("attachment; filename=\"{id}.log\"");
    let name = HeaderValue::try_from(name).expect("an id is a header");
    response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    Ok(response)
}

pub(crate) async fn retry(call: Call) -> Result<Response, Problem> {
    call.console().retry(&call.by(), call.id()?).await?;
    Ok(back(&call, "retry"))
}

pub(crate) async fn cancel(call: Call) -> Result<Response, Problem> {
    let did = match call.console().cancel(&call.by(), call.id()?).await? {
        CancelOutcome::Cancelled => "cancelled",
        CancelOutcome::Requested => "requested",
        _ => "finished",
    };
    Ok(back(&call, did))
}

pub(crate) async fn delete(call: Call) -> Result<Response, Problem> {
    call.console().delete(&call.by(), call.id()?).await?;
    Ok(see_other(&format!("{}/tasks?did=delete", call.base)))
}

fn back(call: &Call, did: &str) -> Response {
    see_other(&format!("{}/tasks/{}?did={did}", call.base, segment(call.param("id"))))
}
