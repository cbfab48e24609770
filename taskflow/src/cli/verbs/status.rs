//! `taskflow status`: the state of everything, and what needs a person.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use taskflow::admin::Situation;
use taskflow::admin::views::OverviewView;

use super::attention::{Attention, attention};
use super::parse;
use super::queues;
use crate::cli::context::color;
use crate::cli::failure::{Code, Failure, Result};
use crate::cli::options::Global;
use crate::cli::output::words::{counted, number};
use crate::cli::output::{Color, clean};
use crate::cli::session::Session;

/// A watch reads for at most a twentieth of the time.
const REST_FACTOR: u32 = 20;

/// The options of `taskflow status`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Options {
    /// Exit with 6 if something keeps tasks from running: for a monitoring system
    #[arg(long)]
    check: bool,
    /// Show it again and again [default interval: 2s]
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = parse::length)]
    watch: Option<Duration>,
    /// `--check` fails if a task has been due for longer
    #[arg(long, value_name = "LENGTH", default_value = "5m", value_parser = parse::length)]
    max_wait: Duration,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    overview: OverviewView,
    healthy: bool,
    attention: Vec<Attention>,
}

pub(in crate::cli) async fn run(global: &Global, options: &Options) -> Result<()> {
    let session = Session::look(global).await?;
    loop {
        let began = Instant::now();
        let seen = session.console.situation(session.actor()).await?;
        let found = attention(&session, &seen, options.max_wait).await?;
        let is_healthy = found.iter().all(|it| !it.unhealthy);
        if options.watch.is_some() && session.out.is_for_people() {
            // Home, and clear what is below.
            session.out.text("\u{1b}[H\u{1b}[J")?;
        }
        show(&session, seen, found, is_healthy)?;
        match options.watch {
            Some(interval) => tokio::time::sleep(interval.max(began.elapsed() * REST_FACTOR)).await,
            None if options.check && !is_healthy => return Err(Failure::silent(Code::Unhealthy)),
            None => break,
        }
    }
    session.end().await;
    Ok(())
}

fn show(session: &Session, seen: Situation, found: Vec<Attention>, is_healthy: bool) -> Result<()> {
    let out = session.out;
    let Situation { now, counts, queues, instances, health, .. } = seen;
    let running: u64 = instances.iter().map(|it| it.running).sum();
    if out.is_json() {
        let overview = OverviewView::of(counts, true, queues, (instances.len(), running), health, now);
        return out.json(&Shown { overview, healthy: is_healthy, attention: found });
    }
    if !out.is_for_people() {
        let numbers = [
            ("pending", counts.pending),
            ("running", counts.running),
            ("success", counts.success),
            ("failed", counts.failed),
            ("interrupted", counts.interrupted),
            ("cancelled", counts.cancelled),
            ("rejected", counts.rejected),
            ("processes", instances.iter().filter(|it| it.runs).count() as u64),
            ("attention", found.len() as u64),
        ];
        return numbers.iter().try_for_each(|(word, n)| out.line(&format!("{word}\t{n}")));
    }
    let paint = |color, text: &str| out.style.paint(color, text);
    let place = clean(&session.target.shown());
    let context = session.target.context.as_ref().map(|name| {
        let production = if session.target.is_production { " (production)" } else { "" };
        paint(color(session.target.accent), &clean(&format!("  {name}{production}")))
    });
    out.line(&format!("{}{}", paint(Color::Bold, &place), context.unwrap_or_default()))?;
    let runners = instances.iter().filter(|it| it.runs).count() as u64;
    let processes = match runners {
        0 => paint(Color::Red, "no process runs tasks"),
        n => format!(
            "{} {} tasks, {} running",
            counted(n, "process"),
            if n == 1 { "runs" } else { "run" },
            number(running)
        ),
    };
    out.line(&processes)?;
    let parts = [
        ("pending", counts.pending, Color::Plain),
        ("running", counts.running, Color::Blue),
        ("succeeded", counts.success, Color::Green),
        ("failed", counts.failed, Color::Red),
        ("interrupted", counts.interrupted, Color::Magenta),
        ("cancelled", counts.cancelled, Color::Dim),
        ("rejected", counts.rejected, Color::Red),
    ];
    let shown: Vec<_> = parts
        .into_iter()
        .filter(|(word, n, _)| *n > 0 || ["pending", "running", "failed"].contains(word))
        .map(|(word, n, color)| {
            paint(if n == 0 { Color::Dim } else { color }, &format!("{} {word}", number(n)))
        })
        .collect();
    out.line(&shown.join("  "))?;
    if !queues.is_empty() {
        out.line("")?;
        out.table(&queues::table(&queues))?;
    }
    out.line("")?;
    if found.is_empty() {
        return out.line(&paint(Color::Green, "nothing needs attention"));
    }
    out.line(&paint(Color::Bold, "needs attention"))?;
    for it in found {
        let mark = if it.unhealthy { paint(Color::Red, "✗") } else { paint(Color::Yellow, "!") };
        out.line(&format!("{mark} {}", clean(&it.message)))?;
        out.line(&paint(Color::Dim, &format!("    {}", clean(&it.command))))?;
    }
    Ok(())
}
