//! The list of tasks: tabs, filters, a page of rows, and the verbs on a selection.

use std::time::SystemTime;

use askama::Template;
use axum::response::Response;
use http::StatusCode;

use super::rows::{Row, Rows, with_progress};
use crate::admin::grammar::{self, Search};
use crate::admin::{AdminError, Permission};
use crate::model::{Cursor, Order, TaskFilter};
use crate::web::call::{Call, see_other};
use crate::web::dashboard::frame::{self, Frame, NotDue, needing_a_person, query};
use crate::web::dashboard::words::number;
use crate::web::live::Beat;
use crate::web::problem::Problem;

const ROWS: usize = 50;

/// How many pages back the URL remembers.
const TRAIL: usize = 20;

/// The fields of the URL that are not words of the filter.
const OTHERS: [&str; 6] = ["q", "after", "trail", "order", "part", "did"];

#[derive(Template)]
#[template(path = "tasks.html")]
struct View {
    f: Frame,
    summary: String,
    tabs: Vec<Tab>,
    chips: Vec<Chip>,
    pairs: Vec<(String, String)>,
    names: Vec<String>,
    queues: Vec<String>,
    rows: Rows,
    query: String,
    matching: String,
    /// Whether the page shows the newest tasks, so that new ones belong on it.
    is_live: bool,
    is_oldest_first: bool,
    /// The query string of the same list in the other order.
    reversed: String,
    previous: Option<String>,
    next: Option<String>,
    problem: String,
    may_export: bool,
    may_act: bool,
    may_retry: bool,
    may_cancel: bool,
    may_delete: bool,
}

struct Tab {
    key: &'static str,
    label: &'static str,
    count: String,
    query: String,
    is_current: bool,
}

struct Chip {
    text: String,
    without: String,
}

type Pairs = Vec<(String, String)>;

pub(crate) async fn show(call: Call) -> Result<Response, Problem> {
    let tasks = call.console().tasks();
    let beat = call.state.live.beat(tasks).await?;
    if let Some(text) = call.field("q") {
        return searched(&call, &beat, text);
    }
    // An empty field of the filter's form is no condition.
    if call
        .query
        .iter()
        .any(|(key, value)| value.is_empty() && !OTHERS.contains(&key.as_str()) && !key.contains('.'))
    {
        let filled = call.query.iter().filter(|(_, value)| !value.is_empty());
        return Ok(see_other(&format!("{}/tasks{}", call.base, query(filled.map(|(k, v)| (k, v))))));
    }
    let pairs = match pairs(&call) {
        Ok(pairs) => pairs,
        Err(problem) => return refused(&call, &beat, String::new(), problem.detail),
    };
    let now = call.now();
    let filter = match grammar::filter(pairs.iter().map(borrowed), now) {
        Ok(filter) => filter,
        Err(error) => return refused(&call, &beat, search_text(&pairs), error.to_string()),
    };
    let mut view = View::new(&call, &beat, pairs, order(&call)?);
    view.read(&call, filter, now).await?;
    match call.field("part") {
        Some("rows") => frame::part(&call, &view.rows),
        _ => frame::answer(&call, &view),
    }
}

/// Redirects a search to its canonical URL, or says what is wrong with it.
fn searched(call: &Call, beat: &Beat, text: &str) -> Result<Response, Problem> {
    let known: Vec<_> = beat.types_seen_by(&call.actor).map(|task| task.name.as_str()).collect();
    let found = Search::parse(text).and_then(|search| match search.id {
        Some(id) => Ok(format!("/{id}")),
        None => search.expand(&known).map(query),
    });
    let found = found.and_then(|path| match path.len() {
        0..7000 => Ok(path),
        _ => Err(AdminError::Invalid { field: "q".to_owned(), message: "the search is too long".to_owned() }),
    });
    match found {
        Ok(path) => Ok(see_other(&format!("{}/tasks{path}", call.base))),
        Err(error) => refused(call, beat, text.to_owned(), error.to_string()),
    }
}

/// The page with an empty list that says what is wrong with a search.
fn refused(call: &Call, beat: &Beat, search: String, problem: String) -> Result<Response, Problem> {
    let mut view = View::new(call, beat, Vec::new(), Order::Newest);
    view.f.search = search;
    view.problem = problem;
    view.rows.is_filtered = true;
    frame::page(StatusCode::UNPROCESSABLE_ENTITY, &view)
}

/// The words of the filter in the URL.
fn pairs(call: &Call) -> Result<Pairs, Problem> {
    let mut pairs = Vec::new();
    for (key, value) in &call.query {
        grammar::check_word(key, &OTHERS)?;
        if !OTHERS.contains(&key.as_str()) {
            pairs.push((key.clone(), value.clone()));
        }
    }
    Ok(pairs)
}

fn search_text(pairs: &Pairs) -> String {
    grammar::text(pairs.iter().map(borrowed))
}

fn borrowed((word, value): &(String, String)) -> (&str, &str) {
    (word, value)
}

/// Whether a word of the filter belongs to the tabs.
fn is_state(word: &str) -> bool {
    word == "status" || word == "phase"
}

const BAD: [&str; 3] = ["failed", "interrupted", "rejected"];

impl View {
    fn new(call: &Call, beat: &Beat, pairs: Pairs, order: Order) -> Self {
        let mut f = Frame::new(call, "Tasks", "tasks", Some(beat));
        f.search = search_text(&pairs);
        let [may_retry, may_cancel, may_delete] =
            [Permission::Retry, Permission::Cancel, Permission::DeleteMany]
                .map(|permission| call.may(permission));
        let seen = beat.queues.iter().filter(|queue| call.actor.sees_queue(&queue.name));
        let rows = Rows {
            base: call.base.clone(),
            rows: Vec::new(),
            may_pick: may_retry || may_cancel || may_delete,
            is_filtered: !pairs.is_empty(),
            is_cut: false,
            order,
            next: String::new(),
        };
        let is_oldest_first = order == Order::Oldest;
        let other = if is_oldest_first { Order::Newest } else { Order::Oldest };
        let reversed = pairs.iter().map(borrowed);
        Self {
            f,
            summary: String::new(),
            tabs: tabs(call, beat, &pairs, order),
            chips: chips(&pairs, order),
            names: beat.types_seen_by(&call.actor).map(|task| task.name.clone()).take(500).collect(),
            queues: seen.map(|queue| queue.name.clone()).take(500).collect(),
            rows,
            query: query(pairs.iter().map(|(k, v)| (k, v))),
            matching: String::new(),
            is_live: !is_oldest_first,
            is_oldest_first,
            reversed: query(reversed.chain(in_order(other))),
            previous: None,
            next: None,
            problem: String::new(),
            may_export: call.may(Permission::ViewArgs),
            may_act: may_retry || may_cancel || may_delete,
            may_retry,
            may_cancel,
            may_delete,
            pairs,
        }
    }

    /// Reads the page of rows that the URL names.
    async fn read(&mut self, call: &Call, filter: TaskFilter, now: SystemTime) -> Result<(), Problem> {
        let after = call.field("after").map(|text| cursor("after", text)).transpose()?;
        let trail: Vec<&str> =
            call.field("trail").unwrap_or_default().split(',').filter(|it| !it.is_empty()).collect();
        for one in trail.iter().take(TRAIL + 1) {
            cursor("trail", one)?;
        }
        let mut filter = call.actor.narrow(filter).limit(ROWS);
        (filter.after, filter.order) = (after, self.rows.order);
        let mut page = call.console().tasks().list_outlines(&filter).await?;
        with_progress(call, &mut page.items).await?;
        self.rows.rows = page.items.iter().map(|record| Row::new(record, now)).collect();
        self.rows.is_cut = page.next.is_some() && self.rows.rows.len() < ROWS;
        let with = |after: Option<&str>, trail: &[&str]| {
            let mut pairs: Vec<(&str, String)> =
                self.pairs.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
            pairs.extend(after.map(|after| ("after", after.to_owned())));
            pairs.extend(in_order(filter.order).map(|(word, order)| (word, order.to_owned())));
            if !trail.is_empty() {
                pairs.push(("trail", trail[trail.len().saturating_sub(TRAIL)..].join(",")));
            }
            query(pairs)
        };
        let here = call.field("after");
        let next = page.next.map(|next| {
            let trail: Vec<&str> = trail.iter().copied().chain(here).collect();
            with(Some(&next.id().to_string()), &trail)
        });
        let previous = here.map(|_| match trail.split_last() {
            Some((last, rest)) => with(Some(*last), rest),
            None => with(None, &[]),
        });
        self.rows.next = next.clone().unwrap_or_default();
        (self.next, self.previous) = (next, previous);
        self.is_live &= here.is_none();
        if let Some(tab) = self.tabs.iter().find(|tab| tab.is_current) {
            self.matching = tab.count.clone();
        }
        if self.matching.is_empty() && here.is_none() && self.next.is_none() {
            self.matching = number(self.rows.rows.len() as u64);
        }
        self.summary =
            if self.pairs.is_empty() { "every task that is kept".to_owned() } else { said(&self.pairs) };
        Ok(())
    }
}

fn cursor(field: &str, text: &str) -> Result<Cursor, Problem> {
    text.parse()
        .map(Cursor::after)
        .map_err(|_| Problem::invalid(field, "it is not a position between two pages"))
}

fn order(call: &Call) -> Result<Order, Problem> {
    match call.field("order") {
        None | Some("newest") => Ok(Order::Newest),
        Some("oldest") => Ok(Order::Oldest),
        Some(_) => Err(Problem::invalid("order", "it is `newest` or `oldest`")),
    }
}

/// The field of the URL for this order; `None` for the default one.
fn in_order(order: Order) -> Option<(&'static str, &'static str)> {
    (order != Order::default()).then_some(("order", order.as_str()))
}

/// The tabs. Their counts cover all tasks, so they are shown only without another filter, and only to an actor that sees all
/// queues.
fn tabs(call: &Call, beat: &Beat, pairs: &Pairs, order: Order) -> Vec<Tab> {
    let others: Vec<_> = pairs.iter().filter(|(word, _)| !is_state(word)).collect();
    let mut states: Vec<_> =
        pairs.iter().filter(|(word, _)| is_state(word)).map(|(_, value)| value.as_str()).collect();
    states.sort_unstable();
    let is_counted = others.is_empty() && call.actor.sees_all_queues();
    let counts = &beat.counts;
    let not_due = NotDue::of(beat);
    let (scheduled, retrying) = not_due.split().unzip();
    let tab = |key, label, words: &[(&str, &str)], n: Option<u64>| {
        let mut values: Vec<_> = words.iter().map(|(_, value)| *value).collect();
        values.sort_unstable();
        let pairs =
            words.iter().copied().chain(others.iter().map(|(word, value)| (word.as_str(), value.as_str())));
        let pairs = pairs.chain(in_order(order));
        Tab {
            key,
            label,
            count: n.filter(|_| is_counted).map(number).unwrap_or_default(),
            query: query(pairs),
            is_current: values == states,
        }
    };
    let bad = BAD.map(|status| ("status", status));
    vec![
        tab("c.total", "All", &[], Some(counts.total())),
        tab("c.waiting", "Waiting", &[("phase", "waiting")], Some(counts.pending - not_due.all)),
        tab("c.scheduled", "Scheduled", &[("phase", "scheduled")], scheduled),
        tab("c.retrying", "Retrying", &[("phase", "retrying")], retrying),
        tab("c.running", "Running", &[("status", "running")], Some(counts.running)),
        tab("c.bad", "Needs a person", &bad, Some(needing_a_person(beat))),
        tab("c.success", "Succeeded", &[("status", "success")], Some(counts.success)),
        tab("c.cancelled", "Cancelled", &[("status", "cancelled")], Some(counts.cancelled)),
    ]
}

/// A chip for each word of the filter, with the query string without it. Alternatives of one word share a chip.
fn chips(pairs: &Pairs, order: Order) -> Vec<Chip> {
    let mut chips: Vec<Chip> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (at, (word, value)) in pairs.iter().enumerate() {
        let is_shared = !word.contains('.');
        if is_shared && seen.contains(&word.as_str()) {
            continue;
        }
        seen.push(word);
        let mine = |other: usize| if is_shared { pairs[other].0 == *word } else { other == at };
        let values: Vec<_> =
            (0..pairs.len()).filter(|other| mine(*other)).map(|other| pairs[other].1.as_str()).collect();
        let without = (0..pairs.len())
            .filter(|other| !mine(*other))
            .map(|at| (pairs[at].0.as_str(), pairs[at].1.as_str()));
        let without = without.chain(in_order(order));
        let value = if is_shared { values.join(", ") } else { value.clone() };
        chips.push(Chip { text: format!("{} {value}", word.replace('_', " ")), without: query(without) });
    }
    chips
}

/// The filter as a few words under the title.
fn said(pairs: &Pairs) -> String {
    let values = |wanted: &str| {
        let values: Vec<_> =
            pairs.iter().filter(|(word, _)| word == wanted).map(|(_, value)| value.as_str()).collect();
        match values.split_last() {
            None => String::new(),
            Some((last, [])) => (*last).to_owned(),
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        }
    };
    let mut parts = vec![values("phase"), values("status")];
    parts.extend([("name", "named "), ("queue", "in "), ("since", "added in the last ")].map(
        |(word, before)| {
            let value = values(word);
            if value.is_empty() { value } else { format!("{before}{value}") }
        },
    ));
    let rest = pairs
        .iter()
        .filter(|(word, _)| !["phase", "status", "name", "queue", "since"].contains(&word.as_str()));
    let rest = rest.count();
    if rest > 0 {
        parts.push(format!("{rest} more condition{}", if rest == 1 { "" } else { "s" }));
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" · ")
}
