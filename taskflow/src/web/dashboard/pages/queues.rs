//! Queues, and one queue with its limits. Live updates never touch the form of the limits.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use askama::Template;
use axum::response::Response;
use http::StatusCode;

use super::queue_table::{Queue, QueueTable, limit};
use super::task::worker;
use crate::admin::{AuditEntry, AuditFilter, AuditOutcome, Permission, grammar};
use crate::model::{LimitsFrom, QueueConfig, QueueInfo, TaskFilter, TaskStatus};
use crate::web::call::{Call, see_other};
use crate::web::dashboard::frame::{self, Cell, Frame, query, segment};
use crate::web::dashboard::history;
use crate::web::dashboard::words::{ago, counted, length, number};
use crate::web::live::Beat;
use crate::web::problem::Problem;

#[derive(Template)]
#[template(path = "queues.html")]
struct List {
    f: Frame,
    summary: String,
    queues: usize,
    table: QueueTable,
}

#[derive(Template)]
#[template(path = "queue.html")]
struct One {
    f: Frame,
    queue: Queue,
    strip: Vec<Cell>,
    tasks_query: String,
    is_paused: bool,
    /// Who paused it, when and why, if the audit log says so.
    pause: String,
    is_stored: bool,
    limits_from: &'static str,
    fields: Vec<Field>,
    /// The limits that the form shows, as JSON.
    shown: String,
    record_rejected: bool,
    facts: Vec<Fact>,
    workers: Vec<(String, String)>,
    no_workers: &'static str,
    keys: Vec<(String, String)>,
    problem: String,
    may_pause: bool,
    may_set: bool,
}

struct Field {
    name: &'static str,
    label: &'static str,
    hint: &'static str,
    value: String,
}

struct Fact {
    label: &'static str,
    text: String,
}

pub(crate) async fn list(call: Call) -> Result<Response, Problem> {
    let tasks = call.console().tasks();
    let beat = call.state.live.beat(tasks).await?;
    let sparks = history::by_queue(&call).await;
    let seen: Vec<_> = beat.queues.iter().filter(|queue| call.actor.sees_queue(&queue.name)).collect();
    let waiting: u64 = seen.iter().map(|queue| queue.waiting()).sum();
    let running: u64 = seen.iter().map(|queue| queue.running).sum();
    let view = List {
        f: Frame::new(&call, "Queues", "queues", Some(&beat)),
        summary: format!("{} waiting, {} running", number(waiting), number(running)),
        queues: seen.len(),
        table: QueueTable {
            queues: seen.iter().map(|it| Queue::new(&call.base, it, sparks.line(&it.name))).collect(),
        },
    };
    frame::answer(&call, &view)
}

pub(crate) async fn show(call: Call) -> Result<Response, Problem> {
    let view = view(&call, None).await?;
    frame::answer(&call, &view)
}

/// The queue in the path, if this actor sees it.
fn find<'a>(call: &Call, beat: &'a Beat) -> Result<&'a QueueInfo, Problem> {
    let name = call.param("queue");
    let found = beat.queues.iter().find(|queue| queue.name == name && call.actor.sees_queue(name));
    found.ok_or_else(|| Problem::not_found(format!("there is no queue `{name}`, or you may not see it")))
}

/// The values of a refused form, and what is wrong with them.
struct Refused {
    form: BTreeMap<String, String>,
    problem: String,
}

async fn view(call: &Call, refused: Option<Refused>) -> Result<One, Problem> {
    let tasks = call.console().tasks();
    let beat = call.state.live.beat(tasks).await?;
    let now_at = call.now();
    // The form shows limits that are read now, not those of the last beat.
    let now = beat.with_queues(tasks.queues().await?);
    let info = find(call, &now)?;
    let sparks = history::by_queue(call).await;
    let (form, problem) = refused.map_or((None, String::new()), |it| (Some(it.form), it.problem));
    let fields = fields(info).map(|mut field| {
        if let Some(form) = &form {
            field.value = form.get(field.name).cloned().unwrap_or_default();
        }
        field
    });
    Ok(One {
        f: Frame::new(call, format!("Queue {}", info.name), "queues", Some(&now)),
        queue: Queue::new(&call.base, info, sparks.line(&info.name)),
        strip: strip(info),
        tasks_query: query([("queue", &info.name)]),
        is_paused: info.paused,
        pause: if info.paused { pause_of(call, &info.name, now_at).await } else { String::new() },
        is_stored: info.limits_from == LimitsFrom::Store,
        limits_from: match info.limits_from {
            LimitsFrom::Nobody => "no limits",
            LimitsFrom::Program => "from the program",
            LimitsFrom::Store => "stored: they override those of the programs",
        },
        fields: fields.into(),
        shown: form
            .as_ref()
            .and_then(|form| form.get("shown").cloned())
            .or_else(|| serde_json::to_string(&info.config()).ok())
            .unwrap_or_default(),
        record_rejected: form
            .as_ref()
            .map_or(info.record_rejected, |form| form.contains_key("record_rejected")),
        facts: facts(info),
        workers: serving(info, &now),
        no_workers: match info.served_by {
            0 => "No process runs this queue.",
            _ => "The processes that run it are not known by name here.",
        },
        keys: keys(call, info).await?,
        problem,
        may_pause: call.may(Permission::Pause),
        may_set: call.may(Permission::SetLimits),
    })
}

/// Who paused the queue, when and why. Empty if the audit log does not say so, or cannot be read.
async fn pause_of(call: &Call, queue: &str, now: SystemTime) -> String {
    let filter = AuditFilter { target: Some(queue.to_owned()), ..AuditFilter::default() };
    let entries = call.console().audit(filter).await.map(|page| page.items).unwrap_or_default();
    let done = |entry: &&AuditEntry| {
        entry.outcome == AuditOutcome::Ok && ["pause_queue", "resume_queue"].contains(&entry.action.as_str())
    };
    match entries.iter().find(done) {
        Some(entry) if entry.action == "pause_queue" => {
            let reason = entry.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("Paused by {} {}{reason}", entry.actor, ago(entry.at, now))
        }
        _ => String::new(),
    }
}

fn fields(info: &QueueInfo) -> [Field; 6] {
    let text = |n: Option<usize>| n.map(|n| n.to_string()).unwrap_or_default();
    let field = |name, label, hint, value| Field { name, label, hint, value };
    let rate = info.rate_limit;
    [
        field(
            "concurrency",
            "In one process",
            "tasks that run at once in each process",
            text(info.concurrency),
        ),
        field(
            "global_concurrency",
            "Over all processes",
            "tasks that run at once in all of them together",
            text(info.global_concurrency),
        ),
        field(
            "key_concurrency",
            "Per key",
            "tasks of one concurrency key that run at once",
            text(info.key_concurrency),
        ),
        field("max_size", "Waiting at most", "further adds are refused", text(info.max_size)),
        field("starts", "Starts", "attempts that begin in each period", text(rate.map(|rate| rate.starts))),
        field("per", "In each", "such as 1s, 1m or 1h", rate.map(|rate| short(rate.per)).unwrap_or_default()),
    ]
}

/// A length as the form reads it: `90s`, `1h`, `250ms`.
fn short(length: Duration) -> String {
    let millis = length.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let unit = units.iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{millis}ms"), |(unit, word)| format!("{}{word}", millis / unit))
}

fn strip(info: &QueueInfo) -> Vec<Cell> {
    let cell = |key: &str, class, label, title, value, words: &[(&str, &str)]| Cell {
        key: format!("q.{}.{key}", info.name),
        class,
        label,
        title,
        value,
        query: query([("queue", info.name.as_str())].into_iter().chain(words.iter().copied())),
    };
    let later = "Not due yet: first attempts, and retries after their back-off";
    let oldest = info.oldest_waiting.map_or("–".to_owned(), length);
    vec![
        cell(
            "waiting",
            "pending",
            "Waiting",
            "Due, and waiting to be started",
            number(info.waiting()),
            &[("phase", "waiting")],
        ),
        cell(
            "later",
            "scheduled",
            "Later",
            later,
            number(info.scheduled),
            &[("phase", "scheduled"), ("phase", "retrying")],
        ),
        cell("running", "running", "Running", "Running now", number(info.running), &[("status", "running")]),
        cell(
            "oldest",
            "pending",
            "Oldest",
            "How long the oldest due task has waited",
            oldest,
            &[("phase", "waiting")],
        ),
        cell(
            "rate",
            "success",
            "Ended/min",
            "Tasks that ended within the last minute",
            number(info.finished_last_minute),
            &[("phase", "ended")],
        ),
    ]
}

fn facts(info: &QueueInfo) -> Vec<Fact> {
    let mut facts = vec![Fact { label: "Kept records of ended tasks", text: number(info.finished) }];
    if let Some(limit) = limit(info) {
        let text = format!("{} of {} slots", number(info.running), number(limit as u64));
        facts.push(Fact { label: "Busy", text });
    }
    facts.push(Fact { label: "Served by", text: counted(info.served_by as u64, "process") });
    if info.rejected > 0 {
        facts.push(Fact { label: "Refused since it exists", text: number(info.rejected) });
    }
    if info.is_full() {
        facts.push(Fact { label: "Full", text: "adds may be refused until fewer tasks wait".to_owned() });
    }
    facts
}

/// The processes that run the queue. Empty unless every process that runs tasks runs this queue: else it is not known which do.
fn serving(info: &QueueInfo, beat: &Beat) -> Vec<(String, String)> {
    let runs: Vec<_> = beat.rare.workers.iter().filter(|worker| worker.runs).collect();
    if runs.len() != info.served_by {
        return Vec::new();
    }
    let shown =
        runs.iter().map(|it| (worker(&it.host, it.pid), format!("{} running in all", number(it.running))));
    shown.collect()
}

/// How many concurrency keys are shown, those with the most running tasks.
const KEYS: usize = 20;

async fn keys(call: &Call, info: &QueueInfo) -> Result<Vec<(String, String)>, Problem> {
    let filter = TaskFilter::new().status(TaskStatus::Running).queue(&info.name).limit(TaskFilter::MAX_LIMIT);
    let page = call.console().tasks().list_outlines(&filter).await?;
    let mut by_key: BTreeMap<String, u64> = BTreeMap::new();
    for record in page.items {
        if let Some(key) = record.concurrency_key {
            *by_key.entry(key).or_default() += 1;
        }
    }
    let mut keys: Vec<_> = by_key.into_iter().collect();
    keys.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    Ok(keys.into_iter().take(KEYS).map(|(key, n)| (key, format!("{} running", number(n)))).collect())
}

/// Reads the form of the limits.
fn config(form: &BTreeMap<String, String>) -> Result<QueueConfig, String> {
    let text = |name: &str| form.get(name).map_or("", |text| text.trim());
    let n = |name: &str, label: &str| match text(name) {
        "" => Ok(None),
        text => {
            let plain = text.replace([',', ' ', '_'], "");
            plain
                .parse::<usize>()
                .map(Some)
                .map_err(|_| format!("“{label}” is `{text}`, which is not a number."))
        }
    };
    let mut config = QueueConfig::new();
    config.concurrency = n("concurrency", "In one process")?;
    config.global_concurrency = n("global_concurrency", "Over all processes")?;
    config.key_concurrency = n("key_concurrency", "Per key")?;
    config.max_size = n("max_size", "Waiting at most")?;
    config.record_rejected = text("record_rejected") == "true";
    match (n("starts", "Starts")?, text("per")) {
        (None, "") => Ok(config),
        (None, _) => Err("“In each” says a period, but “Starts” is empty.".to_owned()),
        (Some(_), "") => {
            Err("“Starts” is given, but “In each” is empty: write a period such as 1m.".to_owned())
        }
        (Some(starts), per) => {
            let length = grammar::length(per)
                .ok_or_else(|| format!("“In each” is `{per}`: write a length such as 1s or 1m."))?;
            Ok(config.rate_limit(starts, length))
        }
    }
}

/// The limits `now`, changed where the form (`said`) differs from the limits that it showed.
fn merged(form: &BTreeMap<String, String>, said: &QueueConfig, mut now: QueueConfig) -> QueueConfig {
    let shown = form.get("shown").and_then(|json| serde_json::from_str::<QueueConfig>(json).ok());
    let Some(shown) = shown else { return said.clone() };
    if said.concurrency != shown.concurrency {
        now.concurrency = said.concurrency;
    }
    if said.global_concurrency != shown.global_concurrency {
        now.global_concurrency = said.global_concurrency;
    }
    if said.key_concurrency != shown.key_concurrency {
        now.key_concurrency = said.key_concurrency;
    }
    if said.rate_limit != shown.rate_limit {
        now.rate_limit = said.rate_limit;
    }
    if said.max_size != shown.max_size {
        now.max_size = said.max_size;
    }
    if said.record_rejected != shown.record_rejected {
        now.record_rejected = said.record_rejected;
    }
    now
}

pub(crate) async fn set(call: Call) -> Result<Response, Problem> {
    let form: BTreeMap<String, String> = call.form().await?.into_iter().collect();
    let name = call.param("queue").to_owned();
    let problem = match config(&form) {
        Ok(config) => {
            match call.console().change_queue(&call.by(), &name, |now| merged(&form, &config, now)).await {
                Ok(()) => return Ok(back(&call, "set")),
                Err(error) => {
                    let problem = Problem::from(error);
                    if problem.status != StatusCode::UNPROCESSABLE_ENTITY {
                        return Err(problem);
                    }
                    problem.detail
                }
            }
        }
        Err(problem) => problem,
    };
    let view = view(&call, Some(Refused { form, problem })).await?;
    frame::page(StatusCode::UNPROCESSABLE_ENTITY, &view)
}

pub(crate) async fn reset(call: Call) -> Result<Response, Problem> {
    call.console().reset_queue(&call.by(), call.param("queue")).await?;
    Ok(back(&call, "reset"))
}

pub(crate) async fn pause(call: Call) -> Result<Response, Problem> {
    let form: BTreeMap<String, String> = call.form().await?.into_iter().collect();
    let by = call.by().reason(form.get("reason").cloned());
    call.console().pause_queue(&by, call.param("queue")).await?;
    Ok(back(&call, "pause"))
}

pub(crate) async fn resume(call: Call) -> Result<Response, Problem> {
    call.console().resume_queue(&call.by(), call.param("queue")).await?;
    Ok(back(&call, "resume"))
}

fn back(call: &Call, did: &str) -> Response {
    see_other(&format!("{}/queues/{}?did={did}", call.base, segment(call.param("queue"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_form_of_limits_reads_what_it_shows() {
        let expected =
            QueueConfig::new().concurrency(8).max_size(1_000).rate_limit(100, Duration::from_secs(90));
        let mut info = QueueInfo::new("mail".to_owned());
        info.show_limits(&expected, LimitsFrom::Store);
        let shown: Vec<_> = fields(&info).into_iter().map(|field| (field.name, field.value)).collect();
        let shown: Vec<_> = shown.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(config(&form(&shown)), Ok(expected));
        assert_eq!(config(&form(&[])), Ok(QueueConfig::new()));
        assert_eq!(config(&form(&[("max_size", "1,000")])), Ok(QueueConfig::new().max_size(1_000)));
    }

    #[test]
    fn the_form_of_limits_says_what_is_wrong() {
        for (pairs, part) in [
            (&[("concurrency", "many")][..], "not a number"),
            (&[("concurrency", "-1")], "not a number"),
            (&[("starts", "5")], "“In each” is empty"),
            (&[("per", "1m")], "“Starts” is empty"),
            (&[("starts", "5"), ("per", "soon")], "write a length"),
            (&[("max_size", "99999999999999999999999")], "not a number"),
        ] {
            let problem = config(&form(pairs)).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }
}
