//! `taskflow workers` and `taskflow types`: the processes, and the tasks that they know.

use std::time::{Duration, SystemTime};

use clap::Args;
use taskflow::InstanceInfo;
use taskflow::admin::views::{InstanceView, Listed, TypeView};
use taskflow::model::{StatsFilter, TaskInfo};

use crate::cli::failure::{Failure, Result};
use crate::cli::options::Global;
use crate::cli::output::words::{ago, between, counted, length, number, rfc3339, rough};
use crate::cli::output::{Cell, Color, Column, Table, clean};
use crate::cli::session::Session;

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(in crate::cli) async fn workers(global: &Global) -> Result<()> {
    let session = Session::look(global).await?;
    let instances = session.tasks().instances().await?;
    if instances.is_empty() && session.out.is_for_people() {
        eprintln!("no process is connected");
    } else {
        let views = InstanceView::each(instances.clone());
        let views: Vec<_> = views.iter().collect();
        session.out.list(|| workers_table(&instances), &Listed::all(views.clone()), &views)?;
    }
    session.end().await;
    Ok(())
}

pub(in crate::cli) fn workers_table(instances: &[InstanceInfo]) -> Table {
    let now = SystemTime::now();
    let mut table = Table::new([
        Column::text("PROCESS").least(12),
        Column::text("DOES"),
        Column::number("RUNNING"),
        Column::number("UP"),
        Column::text("SEEN"),
        Column::text("VERSION").rank(1),
        Column::text("SCHEDULES").least(9).rank(3),
        Column::text("INSTANCE").rank(4),
    ]);
    let differs = |it: &InstanceInfo| instances.iter().any(|other| other.version != it.version);
    for it in instances {
        let does = if it.runs { ("runs tasks", Color::Plain) } else { ("only adds", Color::Dim) };
        table.push([
            Cell::new(format!("{}:{}", it.host, it.pid)),
            Cell::new(does.0).color(does.1),
            Cell::some(it.running),
            Cell::new(rough(between(it.started_at, now))).raw(rfc3339(it.started_at)),
            Cell::new(ago(it.seen_at, now)).raw(rfc3339(it.seen_at)),
            Cell::new(&it.version).color(if differs(it) { Color::Yellow } else { Color::Plain }),
            Cell::new(it.schedules.join(" ")),
            Cell::new(it.id.to_string()),
        ]);
    }
    table
}

/// The options of `taskflow types`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct TypesOptions {
    /// Show this task with its parameters, its options and its last 24 hours
    name: Option<String>,
}

pub(in crate::cli) async fn types(global: &Global, options: &TypesOptions) -> Result<()> {
    let session = Session::look(global).await?;
    let known = session.tasks().tasks().await?;
    match &options.name {
        Some(name) => one(&session, &known, name).await?,
        None if known.is_empty() && session.out.is_for_people() => {
            eprintln!("no process that runs tasks is connected")
        }
        None => {
            let items: Vec<_> = known.iter().collect();
            session.out.list(|| types_table(&known), &Listed::all(items.clone()), &items)?;
        }
    }
    session.end().await;
    Ok(())
}

fn types_table(known: &[TaskInfo]) -> Table {
    let mut table = Table::new([
        Column::text("TASK").least(12),
        Column::text("PARAMETERS").least(12).rank(1),
        Column::text("QUEUE").least(6),
        Column::number("RETRIES"),
        Column::number("PROCESSES").rank(2),
        Column::text("SUMMARY").least(12).rank(3),
    ]);
    for it in known {
        let parameters = it
            .parameters
            .iter()
            .map(|it| if it.is_optional { format!("{}?", it.name) } else { it.name.clone() });
        table.push([
            Cell::new(&it.name),
            Cell::new(parameters.collect::<Vec<_>>().join(" ")),
            Cell::new(&it.queue),
            Cell::new(it.retries.to_string()),
            Cell::new(it.known_by.to_string()).color(if it.differs { Color::Yellow } else { Color::Plain }),
            Cell::new(it.summary.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

async fn one(session: &Session, known: &[TaskInfo], name: &str) -> Result<()> {
    let Some(info) = known.iter().find(|it| it.name == name || it.aliases.iter().any(|alias| alias == name))
    else {
        let names: Vec<_> = known.iter().map(|it| format!("`{}`", it.name)).collect();
        let hint = if names.is_empty() {
            "no process that runs tasks is connected".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        };
        return Err(Failure::not_found(format!("no process knows the task `{name}`")).hint(hint));
    };
    let day = session.tasks().stats(StatsFilter::last(DAY).name(info.name.as_str())).await?.total();
    let out = session.out;
    if out.is_json() {
        return out.json(&TypeView::of(info.clone(), Some(&day)));
    }
    if !out.is_for_people() {
        return out.table(&types_table(std::slice::from_ref(info)));
    }
    out.line(&out.style.paint(Color::Bold, &clean(&info.name)))?;
    if let Some(summary) = &info.summary {
        out.line(&clean(summary))?;
    }
    out.line("")?;
    let mut table = Table::new([Column::text("PARAMETER"), Column::text("TYPE").least(10), Column::text("")]);
    for it in &info.parameters {
        table.push([
            Cell::new(&it.name),
            Cell::new(&it.type_name),
            Cell::new(if it.is_optional { "optional" } else { "" }).color(Color::Dim),
        ]);
    }
    if table.is_empty() {
        out.line("no parameters")?;
    } else {
        out.table(&table)?;
    }
    out.line("")?;
    let fact = |word: &str, text: String| {
        out.line(&format!("{}  {}", out.style.paint(Color::Dim, &format!("{word:12}")), clean(&text)))
    };
    if !info.aliases.is_empty() {
        fact("aliases", info.aliases.join(" "))?;
    }
    fact("queue", info.queue.clone())?;
    let retries = match info.retries {
        0 => "none".to_owned(),
        n => format!("{n}, first after {}, each {} times longer", length(info.delay), info.backoff),
    };
    fact("retries", retries)?;
    fact("timeout", info.timeout.map_or_else(|| "none".to_owned(), length))?;
    fact("priority", info.priority.to_string())?;
    fact(
        "after a crash",
        if info.requeue_on_interrupt {
            "runs again".to_owned()
        } else if info.retries > 0 {
            "runs again while attempts are left".to_owned()
        } else {
            "waits for a person".to_owned()
        },
    )?;
    fact(
        "known by",
        counted(info.known_by as u64, "process")
            + if info.differs { ", which disagree about it" } else { "" },
    )?;
    out.line("")?;
    let counts = day.counts;
    let percentiles = |it: &taskflow::model::Histogram| {
        let q = |share| it.quantile(share).map_or_else(|| "-".to_owned(), length);
        format!("median {}, 95 % below {}", q(0.5), q(0.95))
    };
    fact(
        "last 24 h",
        format!(
            "{} runs, {} succeeded, {} failed, {} retried",
            number(counts.ended()),
            number(counts.succeeded),
            number(counts.failed),
            number(counts.retried)
        ),
    )?;
    fact("waited", percentiles(&day.wait))?;
    fact("ran", percentiles(&day.run))
}
