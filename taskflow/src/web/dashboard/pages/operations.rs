//! Acts on many tasks: how far they are, and the buttons to stop and to resume them.

use std::time::SystemTime;

use askama::Template;
use axum::response::Response;

use crate::admin::{Operation, OperationState, Verb, grammar};
use crate::web::call::{Call, see_other};
use crate::web::dashboard::frame::{self, Frame};
use crate::web::dashboard::words::{self, Mark, When, counted, length, number};
use crate::web::problem::Problem;

#[derive(Template)]
#[template(path = "operations.html")]
struct List {
    f: Frame,
    operations: Vec<Shown>,
}

#[derive(Template)]
#[template(path = "operation.html")]
struct One {
    f: Frame,
    it: Shown,
    sentence: String,
    facts: Vec<Fact>,
}

struct Fact {
    label: &'static str,
    text: String,
}

struct Shown {
    id: String,
    verb: &'static str,
    mark: Mark,
    percent: u64,
    done: String,
    filter: String,
    actor: String,
    reason: String,
    when: When,
    may_stop: bool,
    may_resume: bool,
}

fn mark(state: OperationState) -> Mark {
    let (class, word) = match state {
        OperationState::Running => ("running", "Running"),
        OperationState::Stopping => ("interrupted", "Stopping"),
        OperationState::Done => ("success", "Done"),
        OperationState::Stopped => ("cancelled", "Stopped"),
        OperationState::Failed => ("failed", "Failed"),
        OperationState::BrokenOff => ("interrupted", "Broken off"),
    };
    Mark { class, word }
}

impl Shown {
    fn new(call: &Call, it: &Operation, now: SystemTime) -> Self {
        let seen = it.acted + it.skipped;
        let is_over = it.state.is_over();
        let filter = match it.filter.is_empty() {
            true => "chosen tasks".to_owned(),
            false => grammar::text(it.filter.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
        };
        let may = call.may(it.verb.permission());
        Self {
            id: it.id.to_string(),
            verb: match it.verb {
                Verb::Retry => "Retry",
                Verb::Cancel => "Cancel",
                Verb::Delete => "Delete",
            },
            mark: mark(it.state),
            percent: if it.state == OperationState::Done {
                100
            } else {
                (seen * 100 / it.of.max(1)).min(100)
            },
            done: format!("{} of {}{}", number(seen), if it.of_exact { "" } else { "≥ " }, number(it.of)),
            filter,
            actor: it.actor.clone(),
            reason: it.reason.clone().unwrap_or_default(),
            when: words::when(it.started_at, now),
            may_stop: may && !is_over && it.state != OperationState::Stopping,
            may_resume: may && is_over && it.state != OperationState::Done,
        }
    }
}

pub(crate) async fn list(call: Call) -> Result<Response, Problem> {
    let beat = call.state.live.beat(call.console().tasks()).await?;
    let now = call.now();
    let operations = call.console().operations(&call.actor).await?;
    let operations = operations.iter().map(|it| Shown::new(&call, it, now)).collect();
    frame::answer(&call, &List { f: Frame::new(&call, "Operations", "operations", Some(&beat)), operations })
}

pub(crate) async fn show(call: Call) -> Result<Response, Problem> {
    let beat = call.state.live.beat(call.console().tasks()).await?;
    let operation = call.console().operation(&call.actor, call.id()?).await?;
    let it = Shown::new(&call, &operation, call.now());
    let facts = [
        ("Tasks", it.filter.clone()),
        ("Frozen at", words::instant(operation.frozen_at)),
        ("By", operation.actor.clone()),
        ("Reason", it.reason.clone()),
        ("Spread over", operation.spread.map(length).unwrap_or_default()),
        ("Began", words::instant(operation.started_at)),
        ("Last change", words::instant(operation.updated_at)),
        ("Error", operation.error.clone().unwrap_or_default()),
    ];
    let facts = facts.into_iter().filter(|(_, text)| !text.is_empty());
    let view = One {
        f: Frame::new(&call, format!("{} many", it.verb), "operations", Some(&beat)),
        sentence: sentence(&operation),
        facts: facts.map(|(label, text)| Fact { label, text }).collect(),
        it,
    };
    frame::answer(&call, &view)
}

fn sentence(it: &Operation) -> String {
    let done = match it.verb {
        Verb::Retry => "retried",
        Verb::Cancel => "cancelled or asked to stop",
        Verb::Delete => "deleted",
    };
    let mut text = format!("{} {done}", counted(it.acted, "task"));
    if it.skipped > 0 {
        text.push_str(&format!(", {} had changed or did not allow it", number(it.skipped)));
    }
    match it.state {
        OperationState::Running => {
            text.push_str(&format!("; {} a second", number(it.rate() as u64)));
            if let Some(left) = it.left() {
                text.push_str(&format!(", about {} left", length(left)));
            }
        }
        OperationState::Stopping => text.push_str("; it stops after its current batch"),
        OperationState::Stopped => text.push_str("; then it was stopped, and what it did stays"),
        OperationState::BrokenOff => text.push_str("; then its process was lost. “Go on” acts on the rest"),
        OperationState::Failed => {
            text.push_str("; then the store failed for too long. “Go on” acts on the rest")
        }
        OperationState::Done => {}
    }
    text.push('.');
    text
}

pub(crate) async fn stop(call: Call) -> Result<Response, Problem> {
    let id = call.id()?;
    call.console().stop_operation(&call.by(), id).await?;
    Ok(see_other(&format!("{}/operations/{id}?did=stop", call.base)))
}

pub(crate) async fn go_on(call: Call) -> Result<Response, Problem> {
    let id = call.id()?;
    call.console().resume_operation(&call.by(), id).await?;
    Ok(see_other(&format!("{}/operations/{id}?did=go-on", call.base)))
}
