//! `taskflow schedules`: list them, run them now, pause, resume and remove them.

use std::time::SystemTime;

use clap::{Args, Subcommand};
use taskflow::ScheduleInfo;
use taskflow::admin::views::{Listed, ScheduleView};

use crate::cli::failure::{Failure, Result};
use crate::cli::options::{Acting, Global};
use crate::cli::output::words::{ago, between, instant, number, rfc3339};
use crate::cli::output::{Cell, Color, Column, Table, clean};
use crate::cli::session::Session;

/// The options of `taskflow schedules`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct Options {
    /// Show only this schedule, with its next ticks
    name: Option<String>,
    /// How many of the next ticks to show
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    next: u16,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Add its task now, beside its ticks
    #[command(after_help = "Example: taskflow schedules run nightly_report")]
    Run(One),
    /// Let its ticks pass without adding tasks
    #[command(after_help = "Example: taskflow schedules pause nightly_report --reason 'month end'")]
    Pause(One),
    /// Let it tick again, from its next tick on
    #[command(after_help = "Example: taskflow schedules resume nightly_report")]
    Resume(One),
    /// Remove a schedule that was added at run time
    #[command(after_help = "Example: taskflow schedules remove clean-uploads")]
    Remove(One),
}

#[derive(Args, Clone, Debug)]
struct One {
    name: String,
    #[command(flatten)]
    acting: Acting,
}

impl Verb {
    fn one(&self) -> &One {
        match self {
            Self::Run(one) | Self::Pause(one) | Self::Resume(one) | Self::Remove(one) => one,
        }
    }
}

pub(in crate::cli) async fn run(global: &Global, options: &Options) -> Result<()> {
    let Some(verb) = &options.verb else {
        let session = Session::look(global).await?;
        match &options.name {
            Some(name) => one(&session, name, options.next.into()).await?,
            None => all(&session, options.next.into()).await?,
        }
        session.end().await;
        return Ok(());
    };
    let One { name, acting } = verb.one();
    let session = Session::act(global, acting).await?;
    let (console, by) = (&session.console, &session.by);
    match verb {
        Verb::Run(_) => {
            let task = console.run_schedule(by, name).await?;
            match session.out.is_json() {
                true => session.out.json(&serde_json::json!({ "task": task }))?,
                false => session.out.line(&task.to_string())?,
            }
        }
        Verb::Pause(_) => console.pause_schedule(by, name).await?,
        Verb::Resume(_) => console.resume_schedule(by, name).await?,
        Verb::Remove(_) => {
            console.remove_schedule(by, name).await?;
            if session.out.is_for_people() {
                session.out.line(&format!("{} is removed", clean(name)))?;
            }
        }
    }
    if matches!(verb, Verb::Pause(_) | Verb::Resume(_)) {
        one(&session, name, options.next.into()).await?;
    }
    session.end().await;
    Ok(())
}

async fn all(session: &Session, next: usize) -> Result<()> {
    let schedules = session.console.schedules(session.actor()).await?;
    if schedules.is_empty() && session.out.is_for_people() {
        eprintln!("no program that runs has a schedule, and none was added at run time");
        return Ok(());
    }
    let views: Vec<_> = schedules.iter().map(|it| ScheduleView::of(it.clone(), next)).collect();
    let views: Vec<_> = views.iter().collect();
    session.out.list(|| table(&schedules), &Listed::all(views.clone()), &views)
}

async fn one(session: &Session, name: &str, next: usize) -> Result<()> {
    let schedules = session.console.schedules(session.actor()).await?;
    let Some(found) = schedules.iter().find(|it| it.name == name) else {
        let known: Vec<_> = schedules.iter().map(|it| format!("`{}`", it.name)).collect();
        let hint = if known.is_empty() {
            "there is none".to_owned()
        } else {
            format!("there are {}", known.join(", "))
        };
        return Err(Failure::not_found(format!("there is no schedule `{name}`")).hint(hint));
    };
    let view = ScheduleView::of(found.clone(), next);
    let out = session.out;
    if out.is_json() {
        return out.json(&view);
    }
    out.table(&table(std::slice::from_ref(found)))?;
    if !out.is_for_people() {
        return Ok(());
    }
    let now = SystemTime::now();
    out.line("")?;
    for (at, tick) in view.ticks().iter().enumerate() {
        let title = if at == 0 { "next ticks" } else { "" };
        out.line(&format!(
            "{}  {}  ({})",
            out.style.paint(Color::Dim, &format!("{title:10}")),
            instant(*tick),
            ago(*tick, now)
        ))?;
    }
    let fact = |word: &str, text: String| {
        out.line(&format!("{}  {}", out.style.paint(Color::Dim, &format!("{word:10}")), clean(&text)))
    };
    if let Some(task) = found.last_task {
        fact("last task", task.to_string())?;
    }
    if found.skipped > 0 {
        let last = found.last_skipped.map(|at| format!(", the last {}", ago(at, now))).unwrap_or_default();
        fact("skipped", format!("{} ticks{last}", number(found.skipped)))?;
    }
    fact("declared", if found.stored { "at run time".to_owned() } else { "by a program".to_owned() })
}

pub(in crate::cli) fn table(schedules: &[ScheduleInfo]) -> Table {
    let now = SystemTime::now();
    let mut table = Table::new([
        Column::text("SCHEDULE").least(10),
        Column::text("TASK").least(8).rank(3),
        Column::text("TRIGGER").least(10),
        Column::text("ZONE").rank(2),
        Column::text("NEXT"),
        Column::text("LAST").rank(1),
        Column::text("STATE"),
    ]);
    for it in schedules {
        let is_late = it.next_run.is_some_and(|next| between(next, now).as_secs() >= 60);
        let (state, color) = match it {
            it if it.paused => ("paused", Color::Yellow),
            it if it.next_run.is_none() => ("no process", Color::Red),
            _ if is_late => ("late", Color::Red),
            _ => ("ok", Color::Green),
        };
        let last = it.last_run.map(|at| match it.last_outcome {
            Some(outcome) => format!("{} {}", outcome.as_str(), ago(at, now)),
            None => ago(at, now),
        });
        table.push([
            Cell::new(&it.name),
            Cell::new(it.task.as_deref().unwrap_or_default()),
            Cell::new(it.trigger.as_deref().unwrap_or("unknown")),
            Cell::new(it.timezone.as_deref().unwrap_or("UTC")),
            Cell::new(it.next_run.map(|at| ago(at, now)).unwrap_or_default())
                .raw(it.next_run.map(rfc3339).unwrap_or_default()),
            Cell::new(last.unwrap_or_default()).raw(it.last_run.map(rfc3339).unwrap_or_default()),
            Cell::new(state).color(color),
        ]);
    }
    table
}
