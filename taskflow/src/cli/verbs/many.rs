//! `taskflow retry`, `cancel` and `delete`: one task, several, or all that match a filter.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use taskflow::admin::views::{OperationView, PreviewView};
use taskflow::admin::{Console, Operation, OperationState, Preview, Running, Selection, Verb};
use taskflow::{CancelOutcome, TaskId};

use super::{list, parse};
use crate::cli::failure::{Code, Failure, Result};
use crate::cli::options::{Acting, Global};
use crate::cli::output::clean;
use crate::cli::output::words::{counted, length, number};
use crate::cli::select::{self, Selected};
use crate::cli::session::Session;

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// The options of `taskflow retry`, `cancel` and `delete`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Options {
    /// Ids, or the words of a filter: `status:failed queue:mail error:"timed out" since:6h`
    #[arg(value_name = "ID|FILTER")]
    words: Vec<String>,
    /// Every task, if there are no words
    #[arg(long)]
    all: bool,
    /// Only say which tasks it would be
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    acting: Acting,
}

/// The options of `taskflow retry`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Retry {
    #[command(flatten)]
    options: Options,
    /// Spread the tries evenly over this time, so that they do not overload a service that has just come back: `10m`
    #[arg(long, value_name = "LENGTH", value_parser = parse::length)]
    spread: Option<Duration>,
}

pub(in crate::cli) async fn retry(global: &Global, retry: &Retry) -> Result<()> {
    act(global, Verb::Retry, &retry.options, retry.spread).await
}

pub(in crate::cli) async fn run(global: &Global, verb: Verb, options: &Options) -> Result<()> {
    act(global, verb, options, None).await
}

async fn act(global: &Global, verb: Verb, options: &Options, spread: Option<Duration>) -> Result<()> {
    let looks = Session::look(global).await?;
    let selected = select::select(&looks, &options.words, options.all).await;
    looks.end().await;
    match selected? {
        Selected::Ids(ids) => match spread {
            Some(_) => matching(global, verb, options, Selection::Ids(ids), spread).await,
            None => each(global, verb, options, ids).await,
        },
        Selected::Filter(filter) => matching(global, verb, options, Selection::Filter(*filter), spread).await,
    }
}

#[derive(Serialize)]
struct One {
    id: TaskId,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Acts on chosen tasks, one after the other, and prints the outcome of each. The exit code is the highest of all.
async fn each(global: &Global, verb: Verb, options: &Options, ids: Vec<TaskId>) -> Result<()> {
    if options.dry_run {
        let session = Session::look(global).await?;
        let preview = session.console.preview(session.actor(), verb, &Selection::Ids(ids)).await?;
        show(&session, verb, &preview)?;
        session.end().await;
        return if preview.matching == 0 { Err(Failure::silent(Code::Nothing)) } else { Ok(()) };
    }
    let session = Session::act(global, &options.acting).await?;
    let (mut worst, mut told) = (Code::Done, Vec::new());
    for id in ids {
        match one(&session, verb, id).await {
            Ok(outcome) if session.out.is_json() => told.push(One { id, outcome, error: None }),
            Ok(outcome) => session.out.line(
                &format!("{id}\t{outcome}")
                    .replace('\t', if session.out.is_for_people() { "  " } else { "\t" }),
            )?,
            Err(failure) => {
                worst = worst.max(failure.code);
                eprintln!("error: {}", failure.message);
                told.push(One { id, outcome: "refused", error: Some(failure.message) });
            }
        }
    }
    if session.out.is_json() {
        session.out.list(|| unreachable!("it is JSON"), &serde_json::json!({ "items": told }), &told)?;
    }
    session.end().await;
    if worst == Code::Done { Ok(()) } else { Err(Failure::silent(worst)) }
}

async fn one(session: &Session, verb: Verb, id: TaskId) -> Result<&'static str> {
    let (console, by) = (&session.console, &session.by);
    match verb {
        Verb::Retry => console.retry(by, id).await.map(|()| "retried").map_err(Failure::from),
        Verb::Delete => console.delete(by, id).await.map(|()| "deleted").map_err(Failure::from),
        _ => match console.cancel(by, id).await? {
            CancelOutcome::Cancelled => Ok("cancelled"),
            CancelOutcome::Requested => Ok("asked to stop"),
            _ => Err(Failure::nothing(format!("task {id} has already ended"))),
        },
    }
}

/// Acts on all tasks that match: shows which, asks, and does it in batches.
async fn matching(
    global: &Global,
    verb: Verb,
    options: &Options,
    selection: Selection,
    spread: Option<Duration>,
) -> Result<()> {
    let session = match options.dry_run {
        true => Session::look(global).await?,
        false => Session::begin(global, &options.acting).await?,
    };
    let preview = session.console.preview(session.actor(), verb, &selection).await?;
    if preview.matching == 0 && preview.exact {
        let only = match verb {
            Verb::Retry => "failed, interrupted, cancelled or rejected",
            Verb::Cancel => "waiting or running",
            _ => "ended",
        };
        session.end().await;
        return Err(Failure::nothing(format!("nothing to {}: no {only} task matches", verb.as_str())));
    }
    if options.dry_run {
        show(&session, verb, &preview)?;
        session.end().await;
        return Ok(());
    }
    if !options.acting.yes {
        eprint!("{}", told(&session, &preview));
    }
    let number = how_many(&preview);
    let place = match &session.target.context {
        Some(context) if session.target.is_production => format!(" in `{context}`, which is production"),
        _ => String::new(),
    };
    let over = spread.map(|spread| format!(", spread over {}", length(spread))).unwrap_or_default();
    session.confirm(&format!("{} {number}{over}{place}?", capital(verb.as_str())))?;
    let (by, frozen_at, expect) = (&session.by, Some(preview.frozen_at), Some(preview.matching));
    let running = match spread {
        Some(spread) => session.console.begin_retry_over(by, spread, selection, frozen_at, expect).await?,
        None => session.console.begin(by, verb, selection, frozen_at, expect).await?,
    };
    let operation = finish(&session, running).await?;
    session.end().await;
    outcome(&operation)
}

fn how_many(preview: &Preview) -> String {
    format!("{}{}", if preview.exact { "" } else { "at least " }, counted(preview.matching, "task"))
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Shows what an act would do.
fn show(session: &Session, verb: Verb, preview: &Preview) -> Result<()> {
    let out = session.out;
    if out.is_json() {
        return out.json(&PreviewView::of(preview, session.console.now()));
    }
    if out.is_for_people() {
        return out.text(&format!(
            "would {} {}\n{}",
            verb.as_str(),
            how_many(preview),
            told(session, preview)
        ));
    }
    preview.by_name.iter().try_for_each(|(name, n)| out.line(&format!("{name}\t{n}")))
}

/// The number of tasks by name, and examples.
fn told(session: &Session, preview: &Preview) -> String {
    let mut names: Vec<_> = preview.by_name.iter().collect();
    names.sort_by(|a, b| b.1.cmp(a.1));
    let mut text = String::new();
    for (name, n) in names.iter().take(5) {
        text.push_str(&format!("{:>9}  {}\n", number(**n), clean(name)));
    }
    if names.len() > 5 {
        text.push_str(&format!("{:>9}  {}\n", "…", counted((names.len() - 5) as u64, "more name")));
    }
    text.push_str(&list::table(&preview.sample, false).shown(session.out.width, session.out.style));
    text
}

/// Waits for the end of an operation, with a bar on a terminal. Ctrl-C stops it; a second Ctrl-C does not wait for the stop.
pub(super) async fn finish(session: &Session, mut running: Running) -> Result<Operation> {
    let begun = running.now();
    // The bar draws nothing if there is no terminal.
    let bar = ProgressBar::new(begun.of);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {human_pos} of {human_len}  {msg}") {
        bar.set_style(style);
    }
    let mut is_asked = false;
    loop {
        let operation = tokio::select! {
            operation = running.within(SHOW_EVERY) => operation,
            stop = tokio::signal::ctrl_c() => {
                stop?;
                if is_asked {
                    bar.finish_and_clear();
                    return Err(Failure::failed("it was left before it had stopped, and others soon see it as stopped")
                        .hint(format!("`taskflow operations resume {}` goes on", begun.id)));
                }
                is_asked = true;
                bar.set_message("stopping after this batch");
                let (session, id) = (session.clone(), begun.id);
                // In the background, so that a second Ctrl-C works even if the store does not answer.
                tokio::spawn(async move {
                    if let Err(error) = session.console.stop_operation(&session.by, id).await {
                        eprintln!("error: it could not be asked to stop: {error}");
                    }
                });
                continue;
            }
        };
        bar.set_position(operation.acted + operation.skipped);
        if !is_asked {
            let left = operation.left().map(|left| format!("{} left", length(left)));
            bar.set_message(left.unwrap_or_default());
        }
        if operation.state.is_over() {
            bar.finish_and_clear();
            told_end(session, &operation)?;
            return Ok(operation);
        }
    }
}

fn told_end(session: &Session, operation: &Operation) -> Result<()> {
    let out = session.out;
    if out.is_json() {
        return out.json(&OperationView::of(operation));
    }
    let Operation { acted, skipped, .. } = operation;
    if !out.is_for_people() {
        return out.line(&format!("{}\t{}\t{acted}\t{skipped}", operation.id, operation.state.as_str()));
    }
    let done = match operation.verb {
        Verb::Retry => "retried",
        Verb::Cancel => "cancelled or asked to stop",
        _ => "deleted",
    };
    let over = operation.spread.map(|spread| format!(", spread over {}", length(spread))).unwrap_or_default();
    let skipped = match skipped {
        0 => String::new(),
        n => format!("; {} had changed meanwhile", counted(*n, "task")),
    };
    out.line(&format!("{done}: {}{over}{skipped}", counted(*acted, "task")))
}

/// The exit code of an operation.
pub(super) fn outcome(operation: &Operation) -> Result<()> {
    match operation.state {
        OperationState::Done => Ok(()),
        OperationState::Failed => Err(Failure::new(
            Code::StoreAway,
            format!("it was given up: {}", operation.error.as_deref().unwrap_or("the store failed")),
        )
        .hint(format!("`taskflow operations resume {}` goes on", operation.id))),
        state => Err(Failure::failed(format!(
            "{} after {} of {}",
            state.as_str(),
            number(operation.acted),
            counted(operation.of, "task")
        ))
        .hint(format!("`taskflow operations resume {}` goes on", operation.id))),
    }
}

/// Goes on with an operation, and waits for its end.
pub(super) async fn resume(session: &Session, console: &Console, id: TaskId) -> Result<()> {
    let running = console.resume_operation(&session.by, id).await?;
    let operation = finish(session, running).await?;
    outcome(&operation)
}
