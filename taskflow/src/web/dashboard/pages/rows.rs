//! The table of tasks.

use std::time::SystemTime;

use askama::Template;
use askama::filters::HtmlSafe;

use crate::model::{Error, Order, TaskRecord, TaskStatus, sealed};
use crate::web::call::Call;
use crate::web::dashboard::frame::query;
use crate::web::dashboard::words::{self, Mark, When, between, length};

/// The table of one page of tasks.
#[derive(Clone, Debug, Template)]
#[template(path = "rows.html", whitespace = "minimize")]
pub(crate) struct Rows {
    pub(crate) base: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) may_pick: bool,
    pub(crate) is_filtered: bool,
    /// Whether the page is short because the search looks at a bounded number of tasks.
    pub(crate) is_cut: bool,
    pub(crate) order: Order,
    /// The query string of the next page.
    pub(crate) next: String,
}

// The template escapes its own fields.
impl HtmlSafe for Rows {}

/// One task.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) short: String,
    pub(crate) mark: Mark,
    pub(crate) name: String,
    pub(crate) queue: String,
    pub(crate) tags: Vec<Tag>,
    pub(crate) more_tags: usize,
    pub(crate) attempt: String,
    pub(crate) when: When,
    pub(crate) took: String,
    pub(crate) progress: Option<u8>,
    pub(crate) progress_text: String,
    pub(crate) error: String,
}

/// A tag as a link to the tasks that have it.
#[derive(Clone, Debug)]
pub(crate) struct Tag {
    pub(crate) text: String,
    pub(crate) query: String,
}

/// How many tags a row shows.
const TAGS: usize = 2;

impl Row {
    pub(crate) fn new(record: &TaskRecord, now: SystemTime) -> Self {
        let id = record.id.to_string();
        let when = record.finished_at.or(record.started_at.filter(|_| record.status == TaskStatus::Running));
        let progress = record.progress.as_ref().filter(|_| record.status == TaskStatus::Running);
        Self {
            short: short(&id),
            mark: words::state(record, now),
            name: record.name.clone(),
            queue: record.queue.clone(),
            tags: tags(record).take(TAGS).collect(),
            more_tags: record.tags.len().saturating_sub(TAGS),
            attempt: format!("{} / {}", record.attempt, record.max_attempts),
            when: words::when(when.unwrap_or(record.created_at), now),
            took: took(record, now),
            progress: progress.map(|it| percent(it.fraction)),
            progress_text: progress.map(|it| it.message.clone()).unwrap_or_default(),
            error: record
                .error
                .as_deref()
                .map(|error| words::first_line(&sealed::shown(error), 160))
                .unwrap_or_default(),
            id,
        }
    }
}

/// The end of an id: ids begin with the time, so their beginnings are alike.
pub(crate) fn short(id: &str) -> String {
    format!("…{}", id.get(id.len().saturating_sub(8)..).unwrap_or(id))
}

/// A fraction as whole percents.
pub(crate) fn percent(fraction: f32) -> u8 {
    (fraction.clamp(0.0, 1.0) * 100.0) as u8
}

/// The tags of a task as links.
pub(crate) fn tags(record: &TaskRecord) -> impl Iterator<Item = Tag> + '_ {
    record.tags.iter().map(|(key, value)| Tag {
        text: words::first_line(&format!("{key}={value}"), 60),
        query: query([(format!("tag.{key}"), value)]),
    })
}

fn took(record: &TaskRecord, now: SystemTime) -> String {
    match (record.status, record.started_at) {
        (TaskStatus::Pending, _) if record.run_at > now => words::ago(record.run_at, now),
        (TaskStatus::Pending, _) => format!("waits {}", length(between(record.run_at, now))),
        (_, Some(started)) if record.attempt > 0 => {
            length(between(started, record.finished_at.unwrap_or(now)))
        }
        _ => "–".to_owned(),
    }
}

/// Adds the progress of the first 50 running tasks: a list shows it, but outlines lack it.
pub(crate) async fn with_progress(call: &Call, records: &mut [TaskRecord]) -> Result<(), Error> {
    for record in records.iter_mut().filter(|record| record.status == TaskStatus::Running).take(50) {
        if let Some(whole) = call.console().tasks().get(record.id).await? {
            record.progress = whole.progress;
        }
    }
    Ok(())
}
