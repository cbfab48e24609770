//! The overview: how many tasks there are, how fast they run, and what a person should look at.

use std::time::{Duration, SystemTime};

use askama::Template;
use axum::response::Response;

use super::failures::{group_query, groups};
use super::queue_table::{Queue, QueueTable};
use crate::admin::words::Words;
use crate::admin::{Attention, Matter, Situation, attention};
use crate::model::{TaskFilter, TaskStatus};
use crate::web::call::Call;
use crate::web::dashboard::chart::Throughput;
use crate::web::dashboard::frame::{self, Cell, Frame, headline, segment, strip};
use crate::web::dashboard::history;
use crate::web::dashboard::words::{self, ago};
use crate::web::live::Beat;
use crate::web::problem::Problem;

#[derive(Template)]
#[template(path = "overview.html")]
struct View {
    f: Frame,
    headline: String,
    strip: Vec<Cell>,
    chart: Option<Throughput>,
    attention: Vec<Shown>,
    queues: usize,
    table: QueueTable,
}

/// Something that a person should look at, as the page has it.
struct Shown {
    class: &'static str,
    word: &'static str,
    subject: String,
    text: String,
    path: String,
    when: String,
}

/// How many queues the overview shows.
const QUEUES: usize = 8;

/// A queue with a task that has been due for longer counts as unhealthy, and is listed first.
const MAX_WAIT: Duration = Duration::from_secs(300);

pub(crate) async fn show(call: Call) -> Result<Response, Problem> {
    let tasks = call.console().tasks();
    let (now, beat) = (call.now(), call.state.live.beat(tasks).await?);
    let seen = || beat.queues.iter().filter(|queue| call.actor.sees_queue(&queue.name));
    let attention = attention(&call, &beat, now).await?;
    // Show the queues with the most work.
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

async fn attention(call: &Call, beat: &Beat, now: SystemTime) -> Result<Vec<Shown>, Problem> {
    let (actor, rare) = (&call.actor, &beat.rare);
    let situation = Situation {
        now,
        counts: beat.counts,
        queues: beat.queues.iter().filter(|queue| actor.sees_queue(&queue.name)).cloned().collect(),
        instances: rare.workers.clone(),
        schedules: rare.schedules.clone(),
        types: beat.types_seen_by(actor).cloned().collect(),
        health: call.console().tasks().health(),
    };
    let failures = groups(call, TaskFilter::new(), Some(attention::LATELY), now).await?;
    let overrunning = call.console().overrunning(actor).await?;
    let found = attention::find(actor, &situation, &failures, &overrunning, MAX_WAIT);
    Ok(found.iter().map(|it| shown(it, now)).collect())
}

fn shown(it: &Attention, now: SystemTime) -> Shown {
    let of_queue = |name: &str| format!("queues/{}", segment(name));
    let (class, word, path) = match &it.matter {
        Matter::NoWorker { .. } => ("rejected", "Nobody", "workers".to_owned()),
        Matter::Unserved { queue, .. } => ("rejected", "Nobody", of_queue(queue)),
        Matter::Paused { queue, .. } => ("cancelled", "Paused", of_queue(queue)),
        Matter::Full { queue, .. } => ("failed", "Full", of_queue(queue)),
        Matter::Slow { queue, .. } => ("retrying", "Slow", of_queue(queue)),
        Matter::Late { .. } => ("retrying", "Late", "schedules".to_owned()),
        Matter::Failing { group } => {
            let word = match group.status {
                TaskStatus::Failed => "Failing",
                TaskStatus::Rejected => "Rejected",
                _ => "Interrupted",
            };
            let path = format!("tasks{}", group_query(group, Some("1h"), None));
            (words::status_mark(group.status).class, word, path)
        }
        Matter::FailingToo { .. } => ("failed", "Failing", "failures?since=1h".to_owned()),
        Matter::Overrunning { id, .. } => ("interrupted", "Overrunning", format!("tasks/{id}")),
        Matter::Versions { .. } => ("retrying", "Skew", "workers".to_owned()),
        Matter::Differs { task, .. } => ("retrying", "Skew", format!("types/{}", segment(task))),
        Matter::LostLeases { .. } => ("interrupted", "Leases", "workers".to_owned()),
        Matter::Panicked { .. } => ("failed", "Bug", "workers".to_owned()),
    };
    let (subject, text) = it.matter.sentence(Words::PAGE, now);
    Shown { class, word, subject, text, path, when: it.at.map(|at| ago(at, now)).unwrap_or_default() }
}
