//! The overview: how much there is, how fast it goes, and what needs a person.

use std::time::{Duration, SystemTime};

use askama::Template;
use axum::response::Response;

use super::failures::{group_query, groups, said};
use super::queue_table::{Queue, QueueTable, limit};
use crate::model::{Error, QueueInfo, ScheduleInfo, TaskFilter, TaskPhase, TaskStatus};
use crate::web::call::Call;
use crate::web::dashboard::chart::Throughput;
use crate::web::dashboard::frame::{self, Cell, Frame, headline, segment, strip};
use crate::web::dashboard::history;
use crate::web::dashboard::words::{self, ago, between, counted, length, number};
use crate::web::live::Beat;
use crate::web::problem::Problem;

#[derive(Template)]
#[template(path = "overview.html")]
struct View {
    f: Frame,
    headline: String,
    strip: Vec<Cell>,
    chart: Option<Throughput>,
    attention: Vec<Attention>,
    queues: usize,
    table: QueueTable,
}

/// Something that a person should look at.
struct Attention {
    class: &'static str,
    word: &'static str,
    subject: String,
    text: String,
    path: String,
    when: String,
}

/// How many queues the overview shows.
const QUEUES: usize = 8;

/// How many groups of failures need attention at once.
const GROUPS: usize = 4;

pub(crate) async fn show(call: Call) -> Result<Response, Problem> {
    let tasks = call.console().tasks();
    let (now, beat) = (call.now(), call.desk.live.beat(tasks).await?);
    let seen = || beat.queues.iter().filter(|queue| call.actor.sees_queue(&queue.name));
    let attention = attention(&call, &beat, now).await?;
    // The queues that are most looked for: those with work.
    let mut busy: Vec<_> = seen().collect();
    busy.sort_by_key(|queue| (std::cmp::Reverse(queue.running + queue.waiting()), queue.name.clone()));
    busy.truncate(QUEUES);
    busy.sort_by(|a, b| a.name.cmp(&b.name));
    let sparks = history::by_queue(&call).await;
    let table = busy.iter().map(|queue| Queue::new(&call.base, queue, sparks.line(&queue.name)));
    let chart = history::throughput(&call, now, None).await;
    let view = View {
        f: Frame::new(&call, "Overview", "overview", Some(&beat)),
        headline: headline(&beat, &call.actor),
        strip: strip(&beat, &call.actor),
        chart,
        attention,
        queues: seen().count(),
        table: QueueTable { queues: table.collect() },
    };
    frame::answer(&call, &view)
}

async fn attention(call: &Call, beat: &Beat, now: SystemTime) -> Result<Vec<Attention>, Error> {
    let mut found = Vec::new();
    failing(call, now, &mut found).await?;
    for queue in beat.queues.iter().filter(|queue| call.actor.sees_queue(&queue.name)) {
        of_queue(queue, &mut found);
    }
    overrunning(call, now, &mut found).await?;
    of_processes(call, beat, now, &mut found);
    Ok(found)
}

async fn failing(call: &Call, now: SystemTime, found: &mut Vec<Attention>) -> Result<(), Error> {
    let hour = Some(Duration::from_secs(3_600));
    let groups = groups(call, TaskFilter::new(), hour, now).await?;
    let more = groups.groups.len().saturating_sub(GROUPS);
    for group in groups.groups.iter().take(GROUPS) {
        let message = said(group);
        found.push(Attention {
            class: words::status_mark(group.status).class,
            word: match group.status {
                TaskStatus::Failed => "Failing",
                TaskStatus::Rejected => "Rejected",
                _ => "Interrupted",
            },
            subject: group.name.clone(),
            text: format!(": {message} · {} in the last hour", number(group.count)),
            path: format!("tasks{}", group_query(group, Some("1h"), None)),
            when: ago(group.last, now),
        });
    }
    if more > 0 {
        found.push(Attention {
            class: "failed",
            word: "Failing",
            subject: counted(more as u64, "more group"),
            text: " of failures in the last hour".to_owned(),
            path: "failures?since=1h".to_owned(),
            when: String::new(),
        });
    }
    Ok(())
}

fn of_queue(queue: &QueueInfo, found: &mut Vec<Attention>) {
    let mut push = |class, word, text: String| {
        let (subject, path) = (format!("queue {}", queue.name), format!("queues/{}", segment(&queue.name)));
        found.push(Attention { class, word, subject, text, path, when: "now".to_owned() });
    };
    let waiting = counted(queue.waiting(), "task");
    if queue.paused {
        if queue.pending > 0 {
            push(
                "cancelled",
                "Paused",
                format!(" is paused; {waiting} wait", waiting = counted(queue.pending, "task")),
            );
        }
        return;
    }
    if queue.served_by == 0 && queue.pending > 0 {
        push("rejected", "Nobody", format!(": {waiting} due, and no process runs this queue"));
        return;
    }
    if queue.is_full() {
        push("failed", "Full", format!(" is full: it refuses tasks, {waiting} wait"));
    }
    if let Some(oldest) = queue.oldest_waiting.filter(|oldest| oldest.as_secs() >= 60) {
        let busy = limit(queue)
            .map(|limit| format!("; {} of {} slots busy", number(queue.running), number(limit as u64)));
        push(
            "retrying",
            "Slow",
            format!(": the oldest task has waited {}{}", length(oldest), busy.unwrap_or_default()),
        );
    }
}

async fn overrunning(call: &Call, now: SystemTime, found: &mut Vec<Attention>) -> Result<(), Error> {
    let filter = TaskFilter::new().status(TaskStatus::Running).phase(TaskPhase::Overrunning).limit(3);
    let page = call.console().tasks().list_outlines(&call.actor.narrow(filter)).await?;
    for record in page.items {
        let end = record.started_at.zip(record.timeout).and_then(|(at, timeout)| at.checked_add(timeout));
        found.push(Attention {
            class: "interrupted",
            word: "Overrunning",
            subject: record.name.clone(),
            text: format!(
                " is {} past its timeout and has been asked to stop",
                end.map(|end| length(between(end, now))).unwrap_or_default()
            ),
            path: format!("tasks/{}", record.id),
            when: record.started_at.map(|at| ago(at, now)).unwrap_or_default(),
        });
    }
    Ok(())
}

fn of_processes(call: &Call, beat: &Beat, now: SystemTime, found: &mut Vec<Attention>) {
    let mut push = |class, word, subject: String, text: String, path: &str, when: String| {
        found.push(Attention { class, word, subject, text, path: path.to_owned(), when });
    };
    let rare = &beat.rare;
    let seen = |schedule: &&ScheduleInfo| !schedule.paused && call.actor.sees_all_queues();
    for schedule in rare.schedules.iter().filter(seen) {
        if let Some(next) = schedule.next_run.filter(|next| between(*next, now).as_secs() >= 60) {
            let text = format!(" should have ticked {}", ago(next, now));
            push("retrying", "Late", schedule.name.clone(), text, "schedules", ago(next, now));
        }
    }
    let mut versions: Vec<_> =
        rare.workers.iter().filter(|it| it.runs).map(|it| it.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        let text = format!(" of taskflow run side by side: {}", versions.join(", "));
        push("retrying", "Skew", counted(versions.len() as u64, "version"), text, "workers", String::new());
    }
    let differing: Vec<_> = rare
        .types
        .iter()
        .filter(|task| task.differs && call.actor.sees_queue(&task.queue))
        .map(|task| task.name.as_str())
        .collect();
    if let [first, rest @ ..] = &differing[..] {
        let more = if rest.is_empty() {
            String::new()
        } else {
            format!(" and {}", counted(rest.len() as u64, "more type"))
        };
        let path = format!("types/{}", segment(first));
        let text = format!("{more}: processes disagree about the options");
        push("retrying", "Skew", (*first).to_owned(), text, &path, String::new());
    }
    let health = call.console().tasks().health();
    if health.lost_leases > 0 {
        let text = " lost by this process: it was stopped for longer than its lease, or the store was away"
            .to_owned();
        push("interrupted", "Leases", counted(health.lost_leases, "lease"), text, "workers", String::new());
    }
    if health.engine_restarts > 0 {
        let text = format!(": {}", health.last_engine_panic.unwrap_or_default());
        push(
            "failed",
            "Bug",
            counted(health.engine_restarts, "engine panic"),
            text,
            "workers",
            String::new(),
        );
    }
    if rare.workers.iter().all(|worker| !worker.runs)
        && beat.counts.pending > 0
        && call.actor.sees_all_queues()
    {
        let text = format!(": {} wait", counted(beat.counts.pending, "task"));
        let path = "workers";
        push("rejected", "Nobody", "no process runs tasks".to_owned(), text, path, "now".to_owned());
    }
}
