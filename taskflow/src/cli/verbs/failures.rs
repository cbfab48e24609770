//! `taskflow failures`: what fails, grouped by task and error.

use std::time::{Duration, SystemTime};

use clap::Args;
use taskflow::TaskFilter;
use taskflow::admin::views::FailuresView;
use taskflow::admin::{Failures, grammar};

use super::attention::shell;
use super::parse;
use crate::cli::failure::Result;
use crate::cli::options::Global;
use crate::cli::output::words::{ago, between, color, counted, first_line, rfc3339};
use crate::cli::output::{Cell, Color, Column, Format, Table, clean, spark};
use crate::cli::session::Session;

/// For how many groups the command that retries them is printed.
const COMMANDS: usize = 3;

/// The options of `taskflow failures`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Options {
    /// Tasks that ended in this time: a length such as `6h`, a date, or an instant
    #[arg(long, default_value = "24h", value_parser = parse::since)]
    since: SystemTime,
    /// Only tasks of this queue
    #[arg(long, short = 'q')]
    queue: Option<String>,
    /// Only tasks of this name
    #[arg(long)]
    name: Option<String>,
}

pub(in crate::cli) async fn run(global: &Global, options: &Options) -> Result<()> {
    let session = Session::look(global).await?;
    let mut filter = TaskFilter::new().finished_after(options.since);
    if let Some(queue) = &options.queue {
        filter = filter.queue(queue);
    }
    if let Some(name) = &options.name {
        filter = filter.name(name);
    }
    let now = SystemTime::now();
    let window = between(options.since, now).max(Duration::from_secs(1));
    let found = session.console.failures(session.actor(), filter, window).await?;
    let out = session.out;
    match out.format {
        Format::Json => out.json(&FailuresView::of(&found))?,
        Format::Lines => {
            let view = serde_json::to_value(FailuresView::of(&found)).unwrap_or_default();
            view["items"].as_array().into_iter().flatten().try_for_each(|group| out.json(group))?;
        }
        Format::Tabs => out.table(&table(&found, now))?,
        Format::Table if found.groups.is_empty() => eprintln!("nothing has failed"),
        Format::Table => {
            out.table(&table(&found, now))?;
            out.line("")?;
            for group in found.groups.iter().take(COMMANDS) {
                out.line(
                    &out.style
                        .paint(Color::Dim, &clean(&format!("taskflow retry {}", words(&group.filter())))),
                )?;
            }
            if found.is_cut {
                eprintln!("only the newest {} were looked at", counted(found.looked_at as u64, "failure"));
            }
        }
    }
    session.end().await;
    Ok(())
}

/// The words of a filter, quoted for a shell.
fn words(filter: &str) -> String {
    let Ok(search) = grammar::Search::parse(filter) else { return shell(filter) };
    search.pairs.iter().map(|(word, value)| shell(&format!("{word}:{value}"))).collect::<Vec<_>>().join(" ")
}

pub(in crate::cli) fn table(found: &Failures, now: SystemTime) -> Table {
    let mut table = Table::new([
        Column::number("COUNT"),
        Column::text("TASK").least(10),
        Column::text("STATUS"),
        Column::text("LAST").rank(1),
        Column::text("OVER TIME").rank(3),
        Column::text("SAMPLE").rank(4),
        Column::text("ERROR").least(40),
    ]);
    for group in &found.groups {
        table.push([
            Cell::number(group.count),
            Cell::new(&group.name),
            Cell::new(group.status.as_str()).color(color(group.status)),
            Cell::new(ago(group.last, now)).raw(rfc3339(group.last)),
            Cell::new(spark(&group.over_time)).raw(group.over_time.map(|n| n.to_string()).join(",")),
            Cell::new(group.sample.to_string()),
            Cell::new(first_line(&group.message)),
        ]);
    }
    table
}
