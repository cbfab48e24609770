//! `taskflow audit` and `taskflow operations`: what people did.

use std::time::SystemTime;

use clap::{Args, Subcommand};
use taskflow::TaskId;
use taskflow::admin::views::{Listed, OperationView};
use taskflow::admin::{AuditEntry, AuditFilter, AuditOutcome, Operation, OperationState, grammar};

use super::{many, parse};
use crate::cli::failure::{Failure, Result};
use crate::cli::options::{Acting, Global};
use crate::cli::output::words::{ago, length, number, rfc3339};
use crate::cli::output::{Cell, Color, Column, Table};
use crate::cli::session::Session;

/// The options of `taskflow audit`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct AuditOptions {
    /// Entries of this time: a length such as `7d`, a date, or an instant
    #[arg(long, default_value = "7d", value_parser = parse::since)]
    since: SystemTime,
    /// Only what this actor did
    #[arg(long)]
    actor: Option<String>,
    /// Only this act: `retry`, `pause_queue`, `login`, ..
    #[arg(long)]
    action: Option<String>,
    /// Only what was done to this task, queue or schedule
    #[arg(long)]
    target: Option<String>,
    /// The most entries
    #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

pub(in crate::cli) async fn audit(global: &Global, options: &AuditOptions) -> Result<()> {
    let session = Session::look(global).await?;
    let mut filter = AuditFilter::default();
    filter.since = Some(options.since);
    filter.actor.clone_from(&options.actor);
    filter.action.clone_from(&options.action);
    filter.target.clone_from(&options.target);
    filter.limit = Some(options.limit.into());
    let page = session.console.audit(filter).await?;
    if page.items.is_empty() && session.out.is_for_people() {
        eprintln!("nobody has done anything in this time");
    } else {
        let items: Vec<_> = page.items.iter().collect();
        session.out.list(|| audit_table(&page.items), &Listed::page(items.clone(), page.next), &items)?;
    }
    session.end().await;
    Ok(())
}

pub(in crate::cli) fn audit_table(entries: &[AuditEntry]) -> Table {
    let now = SystemTime::now();
    let mut table = Table::new([
        Column::text("WHEN"),
        Column::text("ACTOR").least(8),
        Column::text("VIA").rank(3),
        Column::text("ACTION"),
        Column::text("ON").least(16),
        Column::number("TASKS").rank(2),
        Column::text("OUTCOME"),
        Column::text("REASON").least(10).rank(1),
        Column::text("DETAIL").least(12).rank(4),
    ]);
    for it in entries {
        let (outcome, color) = match it.outcome {
            AuditOutcome::Ok => ("ok", Color::Green),
            AuditOutcome::Refused => ("refused", Color::Yellow),
            _ => ("failed", Color::Red),
        };
        let via = serde_json::to_value(it.via).ok();
        // Of an act on many tasks, the filter says more than the id of the operation.
        let on = it.filter.as_deref().or(it.target.as_deref()).unwrap_or_default();
        table.push([
            Cell::new(ago(it.at, now)).raw(rfc3339(it.at)),
            Cell::new(&it.actor),
            Cell::new(via.as_ref().and_then(|via| via.as_str()).unwrap_or_default()),
            Cell::new(&it.action),
            Cell::new(on),
            Cell::new(it.count.map(number).unwrap_or_default())
                .raw(it.count.map(|n| n.to_string()).unwrap_or_default()),
            Cell::new(outcome).color(color),
            Cell::new(it.reason.as_deref().unwrap_or_default()),
            Cell::new(it.detail.as_deref().unwrap_or_default()).color(Color::Dim),
        ]);
    }
    table
}

/// The options of `taskflow operations`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct OperationsOptions {
    /// Show only this operation
    id: Option<String>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Stop an operation, in whatever process it runs; what it has done stays
    #[command(after_help = "Example: taskflow operations stop 0193a1b2-c3d4-7abc-8000-000000000001")]
    Stop(One),
    /// Go on with an operation that was stopped, or whose process has died
    #[command(after_help = "Example: taskflow operations resume 0193a1b2-c3d4-7abc-8000-000000000001")]
    Resume(One),
}

#[derive(Args, Clone, Debug)]
struct One {
    id: String,
    #[command(flatten)]
    acting: Acting,
}

pub(in crate::cli) async fn operations(global: &Global, options: &OperationsOptions) -> Result<()> {
    match &options.verb {
        None => {
            let session = Session::look(global).await?;
            let mut operations = session.console.operations(session.actor()).await?;
            if let Some(text) = &options.id {
                let id = find(&session, text).await?;
                operations.retain(|it| it.id == id);
                if session.out.is_json() {
                    session.out.json(&OperationView::of(&operations[0]))?;
                    session.end().await;
                    return Ok(());
                }
            }
            if operations.is_empty() && session.out.is_for_people() {
                eprintln!("nobody has acted on many tasks lately");
            } else {
                let views: Vec<_> = operations.iter().map(OperationView::of).collect();
                session.out.list(|| table(&operations), &Listed::all(views.iter().collect()), &views)?;
            }
            session.end().await;
            Ok(())
        }
        Some(Verb::Stop(one)) => {
            let session = Session::act(global, &one.acting).await?;
            let id = find(&session, &one.id).await?;
            let stopped = session.console.stop_operation(&session.by, id).await?;
            match session.out.is_json() {
                true => session.out.json(&OperationView::of(&stopped))?,
                false => session.out.table(&table(std::slice::from_ref(&stopped)))?,
            }
            session.end().await;
            Ok(())
        }
        Some(Verb::Resume(one)) => {
            let session = Session::begin(global, &one.acting).await?;
            let id = find(&session, &one.id).await?;
            let operation = session.console.operation(session.actor(), id).await?;
            session.confirm(&format!(
                "Go on to {} {} tasks?",
                operation.verb.as_str(),
                number(operation.of.saturating_sub(operation.acted))
            ))?;
            let done = many::resume(&session, &session.console, id).await;
            session.end().await;
            done
        }
    }
}

/// The operation whose id is this text or begins with it.
async fn find(session: &Session, text: &str) -> Result<TaskId> {
    if let Ok(id) = text.parse::<TaskId>() {
        return Ok(session.console.operation(session.actor(), id).await?.id);
    }
    let operations = session.console.operations(session.actor()).await?;
    let mut begin = operations
        .iter()
        .map(|it| it.id)
        .filter(|id| text.len() >= 8 && id.to_string().starts_with(&text.to_lowercase()));
    match (begin.next(), begin.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("several operations have an id that begins with `{text}`")))
        }
        _ => Err(Failure::not_found(format!(
            "there is no operation `{text}`; `taskflow operations` lists them"
        ))),
    }
}

fn table(operations: &[Operation]) -> Table {
    let now = SystemTime::now();
    let mut table = Table::new([
        Column::text("ID"),
        Column::text("VERB"),
        Column::text("STATE"),
        Column::number("DONE"),
        Column::number("OF"),
        Column::number("LEFT").rank(4),
        Column::text("ACTOR").least(8).rank(2),
        Column::text("BEGAN").rank(1),
        Column::text("FILTER").least(10).rank(3),
        Column::text("REASON").least(8).rank(5),
    ]);
    for it in operations {
        let color = match it.state {
            OperationState::Running | OperationState::Stopping => Color::Blue,
            OperationState::Done => Color::Green,
            OperationState::Stopped => Color::Yellow,
            _ => Color::Red,
        };
        let words = grammar::text(it.filter.iter().map(|(word, value)| (word.as_str(), value.as_str())));
        table.push([
            Cell::new(it.id.to_string()),
            Cell::new(it.verb.as_str()),
            Cell::new(it.state.as_str().replace('_', " ")).raw(it.state.as_str()).color(color),
            Cell::number(it.acted),
            Cell::new(format!("{}{}", number(it.of), if it.of_exact { "" } else { "+" }))
                .raw(it.of.to_string()),
            Cell::new(it.left().map(length).unwrap_or_default()),
            Cell::new(&it.actor),
            Cell::new(ago(it.started_at, now)).raw(rfc3339(it.started_at)),
            Cell::new(words),
            Cell::new(it.reason.as_deref().unwrap_or_default()),
        ]);
    }
    table
}
