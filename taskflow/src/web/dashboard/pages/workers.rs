//! The processes that use the store, and the names of due tasks that none of them knows.

use std::collections::BTreeMap;
use std::time::SystemTime;

use askama::Template;
use axum::response::Response;

use super::task::worker;
use crate::model::{Health, TaskFilter, TaskPhase};
use crate::web::call::Call;
use crate::web::dashboard::frame::{self, Frame, query};
use crate::web::dashboard::words::{self, When, between, counted, length, number};
use crate::web::live::Beat;
use crate::web::problem::Problem;

#[derive(Template)]
#[template(path = "workers.html")]
struct View {
    f: Frame,
    summary: String,
    warnings: Vec<String>,
    workers: Vec<Shown>,
    unknown: Vec<Unknown>,
    health: Option<Vec<Fact>>,
}

struct Shown {
    process: String,
    runs: bool,
    running: String,
    version: String,
    started: When,
    seen: When,
    schedules: String,
    instance: String,
    is_this: bool,
    is_skewed: bool,
    is_quiet: bool,
}

struct Unknown {
    name: String,
    count: String,
    query: String,
}

struct Fact {
    label: &'static str,
    text: String,
}

pub(crate) async fn show(call: Call) -> Result<Response, Problem> {
    let tasks = call.console().tasks();
    let (now, beat) = (call.now(), call.state.live.beat(tasks).await?);
    let instances = call.console().instances(&call.actor).await?;
    let newest = instances.iter().map(|it| &it.version).max();
    let this = (gethostname::gethostname().to_string_lossy().into_owned(), std::process::id());
    let shown = instances.iter().map(|it| Shown {
        process: worker(&it.host, it.pid),
        runs: it.runs,
        running: number(it.running),
        is_skewed: newest != Some(&it.version),
        version: it.version.clone(),
        started: words::when(it.started_at, now),
        seen: words::when(it.seen_at, now),
        is_quiet: between(it.seen_at, now).as_secs() >= 15,
        schedules: words::first_line(&it.schedules.join(", "), 120),
        instance: it.id.to_string(),
        is_this: (&it.host, it.pid) == (&this.0, this.1),
    });
    let workers: Vec<_> = shown.collect();
    let running: u64 = instances.iter().map(|it| it.running).sum();
    let mut warnings = Vec::new();
    if workers.iter().any(|it| it.is_skewed) {
        warnings.push(
            "Different versions of taskflow run side by side. That is fine during a deployment.".to_owned(),
        );
    }
    let view = View {
        f: Frame::new(&call, "Workers", "workers", Some(&beat)),
        summary: format!(
            "{}, {} running",
            counted(workers.len() as u64, "process"),
            counted(running, "task")
        ),
        warnings,
        workers,
        unknown: unknown(&call, &beat).await?,
        health: Some(health(tasks.health(), now)),
    };
    frame::answer(&call, &view)
}

/// The names that no live process knows, of the newest 1,000 due tasks.
async fn unknown(call: &Call, beat: &Beat) -> Result<Vec<Unknown>, Problem> {
    let known = |name: &str| {
        beat.rare.types.iter().any(|task| task.name == name || task.aliases.iter().any(|it| it == name))
    };
    if beat.rare.types.is_empty() {
        return Ok(Vec::new());
    }
    let filter = TaskFilter::new().phase(TaskPhase::Waiting).limit(TaskFilter::MAX_LIMIT);
    let page = call.console().tasks().list_outlines(&call.actor.narrow(filter)).await?;
    let mut names: BTreeMap<String, u64> = BTreeMap::new();
    for record in page.items.into_iter().filter(|record| !known(&record.name)) {
        *names.entry(record.name).or_default() += 1;
    }
    let shown = names.into_iter().map(|(name, n)| Unknown {
        count: format!("{}{}", number(n), if page.next.is_some() { " or more" } else { "" }),
        query: query([("phase", "waiting"), ("name", &name)]),
        name,
    });
    Ok(shown.take(50).collect())
}

fn health(health: Health, now: SystemTime) -> Vec<Fact> {
    let fact = |label, text| Fact { label, text };
    let store = match health.degraded_since {
        None => "well".to_owned(),
        Some(since) => {
            format!("in trouble for {}: {}", length(between(since, now)), health.reason.unwrap_or_default())
        }
    };
    let mut facts = vec![
        fact("Store", store),
        fact("Running here", number(health.running)),
        fact("Claimed, not ended", number(health.claimed)),
        fact("Failed calls to the store", number(health.store_errors)),
        fact("Lost leases", number(health.lost_leases)),
        fact("Late writes refused", number(health.stale_writes)),
    ];
    if health.dropped_events > 0 {
        facts.push(fact("Events that observers missed", number(health.dropped_events)));
    }
    if let Some(panic) = health.last_engine_panic {
        facts.push(fact("Engine panics", format!("{}, the last: {panic}", number(health.engine_restarts))));
    }
    facts
}
