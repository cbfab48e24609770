//! Failures, grouped by task and error, so that a person sees which failures there are and not only how many.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use askama::Template;
use axum::response::Response;

use crate::admin::{FailureGroup, Failures, failures};
use crate::admin::{Permission, grammar};
use crate::model::{Error, TaskFilter};
use crate::web::call::Call;
use crate::web::dashboard::chart;
use crate::web::dashboard::frame::{self, Frame, query};
use crate::web::dashboard::words::{self, When, counted, number};
use crate::web::problem::Problem;

#[derive(Template)]
#[template(path = "failures.html")]
struct View {
    f: Frame,
    summary: String,
    tabs: Vec<Tab>,
    groups: Vec<Shown>,
    since_text: String,
    spark_title: String,
    note: String,
    may_act: bool,
    may_retry: bool,
    may_delete: bool,
}

struct Tab {
    label: &'static str,
    query: &'static str,
    is_current: bool,
}

struct Shown {
    name: String,
    message: String,
    count: String,
    first: When,
    last: When,
    sample: String,
    spark: String,
    query: String,
}

/// The spans that the page offers, with their lengths.
const SPANS: [(&str, &str, &str, Option<u64>); 5] = [
    ("1h", "Last hour", "?since=1h", Some(3_600)),
    ("6h", "6 hours", "?since=6h", Some(6 * 3_600)),
    ("24h", "24 hours", "", Some(24 * 3_600)),
    ("7d", "7 days", "?since=7d", Some(7 * 24 * 3_600)),
    ("all", "All", "?since=all", None),
];

/// The most groups of one page.
const GROUPS: usize = 100;

pub(crate) async fn show(call: Call) -> Result<Response, Problem> {
    for (key, _) in &call.query {
        if !["since", "queue", "part", "did"].contains(&key.as_str()) {
            return Err(Problem::invalid(key, "there is no such field; there are `since` and `queue`"));
        }
    }
    let asked = call.field("since").unwrap_or("24h");
    let span = SPANS.iter().find(|(word, ..)| *word == asked);
    let since = match span {
        Some((.., length)) => length.map(Duration::from_secs),
        None => Some(grammar::length(asked).ok_or_else(|| {
            Problem::invalid("since", format!("`{asked}` is not a length: write `30m`, `6h` or `all`"))
        })?),
    };
    let tasks = call.console().tasks();
    let (now, beat) = (call.now(), call.state.live.beat(tasks).await?);
    let mut filter = TaskFilter::new();
    if let Some(queue) = call.field("queue") {
        filter = filter.queue(queue);
    }
    let found = groups(&call, filter, since, now).await?;
    let count: u64 = found.groups.iter().map(|group| group.count).sum();
    let (may_retry, may_delete) = (call.may(Permission::Retry), call.may(Permission::DeleteMany));
    let length = match span {
        Some((_, label, ..)) => label.strip_prefix("Last ").unwrap_or(label).to_owned(),
        None => since.map(words::length).unwrap_or_default(),
    };
    let since_text = since.map(|_| format!(" in the last {length}")).unwrap_or_default();
    let shown = found.groups.iter().take(GROUPS).map(|group| Shown {
        name: group.name.clone(),
        message: said(group),
        count: format!("{}{}", number(group.count), if found.is_cut { "+" } else { "" }),
        first: words::when(group.first, now),
        last: words::when(group.last, now),
        sample: group.sample.to_string(),
        spark: chart::sparkline(&group.over_time),
        query: group_query(group, since.map(|_| asked), call.field("queue")),
    });
    let mut note = "Errors are compared by their first 200 bytes, with ids, numbers, quoted texts and addresses replaced. \
                    “Show”, “Retry” and “Delete” select by task, status and the longest part that the errors share."
        .to_owned();
    if found.is_cut {
        note = format!("Not all were looked at, at most {}. {note}", number(Failures::MAX_LOOKED_AT as u64));
    }
    let view = View {
        f: Frame::new(&call, "Failures", "failures", Some(&beat)),
        summary: match found.groups.len() {
            0 => String::new(),
            n => {
                let newest = if found.is_cut { "the newest " } else { "" };
                format!("{newest}{} in {}{since_text}", counted(count, "task"), counted(n as u64, "group"))
            }
        },
        tabs: SPANS
            .iter()
            .map(|(word, label, query, _)| Tab { label, query, is_current: *word == asked })
            .collect(),
        groups: shown.collect(),
        spark_title: since.map_or("Last 24 hours".to_owned(), |_| format!("Last {length}")),
        since_text,
        note,
        may_act: may_retry || may_delete,
        may_retry,
        may_delete,
    };
    frame::answer(&call, &view)
}

/// The query string of the list that shows the tasks of a group.
pub(crate) fn group_query(group: &FailureGroup, since: Option<&str>, queue: Option<&str>) -> String {
    let mut pairs = vec![("status", group.status.as_str().to_owned()), ("name", group.name.clone())];
    if !group.common.is_empty() {
        pairs.push(("error", group.common.clone()));
    }
    if let Some(since) = since {
        pairs.push(("finished_after", format!("-{since}")));
    }
    if let Some(queue) = queue {
        pairs.push(("queue", queue.to_owned()));
    }
    query(pairs)
}

/// The error of a group; its status if it has no error.
pub(crate) fn said(group: &FailureGroup) -> String {
    match words::first_line(&group.message, 200) {
        message if message.is_empty() => group.status.to_string(),
        message => message,
    }
}

/// The groups that the actor sees, from the cache. Simultaneous callers share one read.
pub(crate) async fn groups(
    call: &Call,
    filter: TaskFilter,
    since: Option<Duration>,
    now: SystemTime,
) -> Result<Arc<Failures>, Error> {
    let mut filter = call.actor.narrow(filter);
    filter.finished_after = since.and_then(|since| now.checked_sub(since));
    let key = format!("groups {since:?} {:?}", filter.queues);
    let window = since.unwrap_or(Duration::from_secs(24 * 3600));
    call.state
        .cache
        .shared(key, call.seam(), failures::read(call.console().tasks(), filter, window, now))
        .await
}
