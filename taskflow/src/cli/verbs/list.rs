//! `taskflow list` and `taskflow count`.

use std::time::SystemTime;

use clap::Args;
use taskflow::admin::views::{Listed, TaskRow};
use taskflow::model::{Count, Cursor};
use taskflow::{TaskFilter, TaskRecord, TaskStatus};

use crate::cli::failure::{Failure, Result};
use crate::cli::options::Global;
use crate::cli::output::words::{between, first_line, length, number, rfc3339, rough, state};
use crate::cli::output::{Cell, Color, Column, Table};
use crate::cli::select;
use crate::cli::session::Session;

/// How many characters of an id a table shows: its millisecond, and a number that grows within the millisecond.
const SHORT: usize = 18;

/// The options of `taskflow list`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct ListOptions {
    /// Words that all must match: `status:failed queue:mail arg.user_id:42 since:6h`
    #[arg(value_name = "FILTER")]
    words: Vec<String>,
    /// The most tasks
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Go on after this task: the `next` of the page before
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Show whole ids, and tags
    #[arg(long, short = 'w')]
    wide: bool,
}

/// The options of `taskflow count`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct CountOptions {
    /// Words that all must match: `status:failed queue:mail since:6h`
    #[arg(value_name = "FILTER")]
    words: Vec<String>,
}

pub(in crate::cli) async fn list(global: &Global, options: &ListOptions) -> Result<()> {
    let session = Session::look(global).await?;
    let mut filter = select::filter(&session, &options.words).await?;
    if let Some(after) = &options.after {
        filter = filter.after(Cursor::after(select::id(&session, after).await?));
    }
    let (records, next) = read(&session, filter, options.limit as usize).await?;
    let now = session.console.now();
    let rows: Vec<_> = records.iter().map(|record| TaskRow::of(record, now)).collect();
    let out = session.out;
    if out.is_for_people() && records.is_empty() {
        eprintln!("no task matches");
    } else {
        let rows: Vec<_> = rows.into_iter().collect();
        out.list(|| table(&records, options.wide), &Listed::page(rows.iter().collect(), next), &rows)?;
    }
    if let Some(next) = next.filter(|_| out.is_for_people()) {
        eprintln!("there may be more: --after {}", next.id());
    }
    session.end().await;
    Ok(())
}

/// Reads pages until `limit` tasks are found.
async fn read(
    session: &Session,
    mut filter: TaskFilter,
    limit: usize,
) -> Result<(Vec<TaskRecord>, Option<Cursor>)> {
    let mut records = Vec::new();
    loop {
        filter.limit = (limit - records.len()).min(TaskFilter::MAX_LIMIT);
        let page = session.tasks().list_outlines(&filter).await?;
        let found = page.items.len();
        records.extend(page.items);
        records.iter_mut().for_each(TaskRecord::hide_sealed);
        match page.next {
            // A page without a match has examined a great many tasks, so the user decides whether to go on.
            Some(next) if records.len() < limit && found > 0 => filter.after = Some(next),
            next => return Ok((records, next)),
        }
    }
}

pub(in crate::cli) fn table(records: &[TaskRecord], wide: bool) -> Table {
    let now = SystemTime::now();
    let mut columns = vec![
        Column::text("ID"),
        Column::text("STATUS"),
        Column::text("NAME").least(10),
        Column::text("QUEUE").least(6).rank(3),
        Column::number("TRY").rank(2),
        Column::number("AGE"),
    ];
    if wide {
        columns.push(Column::text("TAGS").least(8).rank(4));
    }
    columns.push(Column::text("DETAIL").least(24).rank(1));
    let mut table = Table::new(columns);
    for record in records {
        let id = record.id.to_string();
        let (word, color) = state(record);
        let mut row = vec![
            Cell::new(if wide { &id } else { &id[..SHORT] }).raw(&id),
            Cell::new(word).color(color),
            Cell::new(&record.name),
            Cell::new(&record.queue),
            Cell::new(format!("{}/{}", record.attempt, record.max_attempts)),
            Cell::new(rough(between(record.created_at, now))).raw(rfc3339(record.created_at)),
        ];
        if wide {
            let tags: Vec<_> = record.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
            row.push(tags.join(" ").into());
        }
        row.push(detail(record, now));
        table.push(row);
    }
    table
}

/// The most interesting thing about a task in its state.
fn detail(record: &TaskRecord, now: SystemTime) -> Cell {
    let error = record.error.as_deref().unwrap_or_default();
    let took = || Some(length(between(record.started_at?, record.finished_at.unwrap_or(now))));
    let shown = match record.status {
        TaskStatus::Pending if record.run_at > now => {
            let due = format!("due in {}", rough(between(now, record.run_at)));
            if error.is_empty() { due } else { format!("{due}: {}", first_line(error)) }
        }
        TaskStatus::Running => took().map(|took| format!("for {took}")).unwrap_or_default(),
        TaskStatus::Success => took().map(|took| format!("took {took}")).unwrap_or_default(),
        _ => first_line(error).to_owned(),
    };
    Cell::new(shown).raw(error).color(if error.is_empty() { Color::Dim } else { Color::Plain })
}

pub(in crate::cli) async fn count(global: &Global, options: &CountOptions) -> Result<()> {
    let session = Session::look(global).await?;
    let filter = select::filter(&session, &options.words).await?;
    let count = session.tasks().count(filter, Count::UP_TO).await?;
    match session.out.format {
        _ if session.out.is_json() => session.out.json(&count)?,
        _ if session.out.is_for_people() => {
            session.out.line(&format!("{}{}", number(count.n), if count.exact { "" } else { "+" }))?;
        }
        _ if count.exact => session.out.line(&count.n.to_string())?,
        _ => {
            session.out.line(&count.n.to_string())?;
            return Err(Failure::failed("this is a lower bound: the search stopped")
                .hint("narrow the filter, for example with `since:6h`"));
        }
    }
    session.end().await;
    Ok(())
}
