//! Schedules, and tasks that run once at a later time.

use std::time::SystemTime;

use askama::Template;
use axum::response::Response;

use crate::admin::{Permission, next_ticks};
use crate::model::{ScheduleInfo, TaskFilter, TaskPhase, TaskRecord, TaskSource, TickOutcome};
use crate::web::call::{Call, see_other};
use crate::web::dashboard::frame::{self, Frame, segment};
use crate::web::dashboard::words::{self, Mark, When, between, counted, number};
use crate::web::problem::Problem;

#[derive(Template)]
#[template(path = "schedules.html")]
struct View {
    f: Frame,
    summary: String,
    schedules: Vec<Shown>,
    once: Vec<Once>,
    may_run: bool,
    may_remove: bool,
}

struct Shown {
    name: String,
    task: String,
    href: String,
    trigger: String,
    sentence: String,
    next: Option<When>,
    /// The ticks after the next one.
    after_next: Vec<When>,
    last: Option<When>,
    outcome: Option<Mark>,
    last_task: Option<(String, &'static str)>,
    runs: Vec<(String, Mark, String)>,
    skipped: String,
    skipped_title: String,
    is_paused: bool,
    is_late: bool,
    is_stored: bool,
}

/// A task with a run key that is scheduled for a later time.
struct Once {
    id: String,
    name: String,
    key: String,
    queue: String,
    due: When,
}

/// How many coming ticks a schedule shows.
const TICKS: usize = 5;

/// How many recent runs a schedule shows.
const RUNS: usize = 20;

pub(crate) async fn show(call: Call) -> Result<Response, Problem> {
    let tasks = call.console().tasks();
    let (now, beat) = (call.now(), call.state.live.beat(tasks).await?);
    let schedules = call.console().schedules(&call.actor).await?;
    let recent = TaskFilter::new().limit(TaskFilter::MAX_LIMIT);
    let names: Vec<_> = schedules.iter().filter_map(|it| it.task.clone()).collect();
    // The newest runs of all schedules in one read; the source of a task is part of its outline.
    let recent = match names.is_empty() {
        true => Vec::new(),
        false => {
            let filter = names.iter().fold(recent, |filter, name| filter.name(name.clone()));
            tasks.list_outlines(&call.actor.narrow(filter)).await?.items
        }
    };
    let shown = schedules.iter().map(|it| Shown::new(&call, it, &recent, now));
    let later = TaskFilter::new().phase(TaskPhase::Scheduled).limit(200);
    let once = tasks.list_outlines(&call.actor.narrow(later)).await?.items;
    let mut once: Vec<_> =
        once.iter().filter(|it| it.run_key.is_some() && it.source != TaskSource::Schedule).collect();
    once.sort_by_key(|it| it.run_at);
    let once = once.into_iter().take(100).map(|it| Once {
        id: it.id.to_string(),
        name: it.name.clone(),
        key: it.run_key.clone().unwrap_or_default(),
        queue: it.queue.clone(),
        due: words::when(it.run_at, now),
    });
    let paused = schedules.iter().filter(|it| it.paused).count() as u64;
    let mut summary = counted(schedules.len() as u64, "schedule");
    if paused > 0 {
        summary.push_str(&format!(", {} paused", number(paused)));
    }
    let view = View {
        f: Frame::new(&call, "Schedules", "schedules", Some(&beat)),
        summary,
        schedules: shown.collect(),
        once: once.collect(),
        may_run: call.may(Permission::RunSchedule),
        may_remove: call.may(Permission::Add),
    };
    frame::answer(&call, &view)
}

impl Shown {
    fn new(call: &Call, it: &ScheduleInfo, recent: &[TaskRecord], now: SystemTime) -> Self {
        let trigger = it.trigger.clone();
        let zone = it.timezone.as_deref().unwrap_or("UTC");
        let mut sentence = trigger.as_deref().and_then(words::trigger).unwrap_or_default();
        let is_cron = trigger.as_deref().is_some_and(|trigger| !trigger.starts_with("every"));
        if is_cron {
            let separator = if sentence.is_empty() { "" } else { ", " };
            sentence = format!("{sentence}{separator}{zone}");
        }
        let name = it.task.as_deref().unwrap_or(&it.name);
        let runs =
            recent.iter().filter(|record| record.name == name && record.source == TaskSource::Schedule);
        let runs = runs.take(RUNS).map(|record| {
            let mark = words::state(record, now);
            let title = format!("{} {}", mark.word.to_lowercase(), words::ago(record.created_at, now));
            (record.id.to_string(), mark, title)
        });
        let mut runs: Vec<_> = runs.collect();
        runs.reverse();
        let last_task = it.last_task.map(|id| {
            let word = recent
                .iter()
                .find(|record| record.id == id)
                .map_or("open", |record| words::state(record, now).word);
            (id.to_string(), word)
        });
        Self {
            task: it.task.clone().unwrap_or_default(),
            href: format!("{}/schedules/{}", call.base, segment(&it.name)),
            trigger: trigger.unwrap_or_else(|| "not known by a running program".to_owned()),
            sentence,
            next: it.next_run.map(|at| words::when(at, now)),
            after_next: next_ticks(it, TICKS).into_iter().skip(1).map(|at| words::when(at, now)).collect(),
            last: it.last_run.map(|at| words::when(at, now)),
            outcome: it.last_outcome.map(outcome),
            last_task,
            runs,
            skipped: if it.skipped > 0 { format!("{} skipped", number(it.skipped)) } else { String::new() },
            skipped_title: it
                .last_skipped
                .map(|at| format!("the last one {}", words::instant(at)))
                .unwrap_or_default(),
            is_paused: it.paused,
            is_late: !it.paused && it.next_run.is_some_and(|next| between(next, now).as_secs() >= 60),
            is_stored: it.stored,
            name: it.name.clone(),
        }
    }
}

fn outcome(outcome: TickOutcome) -> Mark {
    let (class, word) = match outcome {
        TickOutcome::Added => ("success", "added"),
        TickOutcome::Duplicate => ("scheduled", "had one already"),
        TickOutcome::Refused => ("rejected", "queue was full"),
        TickOutcome::Skipped => ("retrying", "skipped"),
        TickOutcome::Paused => ("cancelled", "paused"),
    };
    Mark { class, word }
}

pub(crate) async fn run(call: Call) -> Result<Response, Problem> {
    let id = call.console().run_schedule(&call.by(), call.param("schedule")).await?;
    Ok(see_other(&format!("{}/tasks/{id}?did=run", call.base)))
}

pub(crate) async fn pause(call: Call) -> Result<Response, Problem> {
    call.console().pause_schedule(&call.by(), call.param("schedule")).await?;
    Ok(back(&call, "schedule-pause"))
}

pub(crate) async fn resume(call: Call) -> Result<Response, Problem> {
    call.console().resume_schedule(&call.by(), call.param("schedule")).await?;
    Ok(back(&call, "schedule-resume"))
}

pub(crate) async fn remove(call: Call) -> Result<Response, Problem> {
    call.console().remove_schedule(&call.by(), call.param("schedule")).await?;
    Ok(back(&call, "schedule-remove"))
}

fn back(call: &Call, did: &str) -> Response {
    see_other(&format!("{}/schedules?did={did}", call.base))
}
