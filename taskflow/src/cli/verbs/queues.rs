//! `taskflow queues`: list them, pause them, and set their limits.

use clap::{Args, Subcommand};
use taskflow::admin::grammar;
use taskflow::admin::views::{Listed, QueueView, QueueWarning};
use taskflow::model::{LimitsFrom, RateLimit};
use taskflow::{QueueConfig, QueueInfo};

use crate::cli::failure::{Failure, Result};
use crate::cli::options::{Acting, Global};
use crate::cli::output::words::{counted, length, number};
use crate::cli::output::{Cell, Color, Column, Table, clean};
use crate::cli::session::Session;

/// The options of `taskflow queues`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct Options {
    /// Show only this queue, with its limits
    name: Option<String>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// No process starts tasks of the queue until it is resumed; running ones go on
    #[command(after_help = "Example: taskflow queues pause mail --reason 'the mail server is down'")]
    Pause(One),
    /// Let the tasks of a paused queue run again
    #[command(after_help = "Example: taskflow queues resume mail")]
    Resume(One),
    /// Set limits of the queue in all processes, without a restart
    #[command(after_help = "\
Example: taskflow queues set mail concurrency=8 max-size=- rate=100/1m

  concurrency=8        the most tasks that run at once in one process
  global=20            the most that run at once over all processes
  per-key=1            the most that run at once with one concurrency key
  rate=100/1m          the most that start in any minute
  max-size=1000        the most that wait; further adds are refused
  record-rejected=yes  whether a refused task leaves a record

`-` removes a limit. Limits that are not named stay.")]
    Set {
        name: String,
        /// `concurrency=8`, `global=20`, `per-key=1`, `rate=100/1m`, `max-size=1000`, `record-rejected=yes`; `-` for no limit
        #[arg(required = true, value_name = "LIMIT=VALUE")]
        limits: Vec<String>,
        #[command(flatten)]
        acting: Acting,
    },
    /// Remove the stored limits, so that those of the programs apply again
    #[command(after_help = "Example: taskflow queues reset mail")]
    Reset(One),
}

#[derive(Args, Clone, Debug)]
struct One {
    name: String,
    #[command(flatten)]
    acting: Acting,
}

pub(in crate::cli) async fn run(global: &Global, options: &Options) -> Result<()> {
    let (session, name) = match &options.verb {
        None => (Session::look(global).await?, options.name.clone()),
        Some(verb) => {
            let (name, acting) = match verb {
                Verb::Pause(one) | Verb::Resume(one) | Verb::Reset(one) => (&one.name, &one.acting),
                Verb::Set { name, acting, .. } => (name, acting),
            };
            let session = Session::act(global, acting).await?;
            act(&session, verb, name).await?;
            (session, Some(name.clone()))
        }
    };
    match name {
        Some(name) => one(&session, &name, options.verb.is_none()).await?,
        None => {
            let queues = session.tasks().queues().await?;
            let views = QueueView::each(queues.clone());
            let views: Vec<_> = views.iter().collect();
            session.out.list(|| table(&queues), &Listed::all(views.clone()), &views)?;
        }
    }
    session.end().await;
    Ok(())
}

async fn act(session: &Session, verb: &Verb, name: &str) -> Result<()> {
    let (console, by) = (&session.console, &session.by);
    // Before the verb, so that a wrong name gets the same error from each verb.
    let queue = find(session, name).await?;
    match verb {
        Verb::Pause(_) => console.pause_queue(by, name).await?,
        Verb::Resume(_) => console.resume_queue(by, name).await?,
        Verb::Reset(_) => console.reset_queue(by, name).await?,
        Verb::Set { limits, .. } => {
            // A wrong word is refused before anything is stored.
            limits.iter().try_fold(queue.config(), |config, word| changed(config, word))?;
            let change = |before: QueueConfig| {
                let after = limits.iter().try_fold(before.clone(), |config, word| changed(config, word));
                after.unwrap_or(before)
            };
            console.change_queue(by, name, change).await?;
        }
    }
    Ok(())
}

async fn find(session: &Session, name: &str) -> Result<QueueInfo> {
    let queues = session.tasks().queues().await?;
    if let Some(queue) = queues.iter().find(|queue| queue.name == name) {
        return Ok(queue.clone());
    }
    let known: Vec<_> = queues.iter().map(|queue| format!("`{}`", queue.name)).collect();
    let hint =
        if known.is_empty() { "there is none".to_owned() } else { format!("there are {}", known.join(", ")) };
    Err(Failure::not_found(format!("there is no queue `{name}`")).hint(hint))
}

/// The limits after one word.
fn changed(mut config: QueueConfig, word: &str) -> Result<QueueConfig> {
    change(&mut config, word).map(|()| config)
}

/// Changes the limit that a word such as `max-size=1000` names.
fn change(config: &mut QueueConfig, word: &str) -> Result<()> {
    let Some((name, value)) = word.split_once('=') else {
        return Err(Failure::usage(format!("`{word}` is not a limit: write `concurrency=8`")));
    };
    let number = |value: &str| {
        value.parse::<usize>().map_err(|_| {
            Failure::usage(format!("`{word}`: `{value}` is not a whole number, or `-` for no limit"))
        })
    };
    let limit = || if value == "-" { Ok(None) } else { number(value).map(Some) };
    match name {
        "concurrency" => config.concurrency = limit()?,
        "global" => config.global_concurrency = limit()?,
        "per-key" => config.key_concurrency = limit()?,
        "max-size" => config.max_size = limit()?,
        "rate" if value == "-" => config.rate_limit = None,
        "rate" => {
            let wrong =
                || Failure::usage(format!("`{word}`: write `rate=100/1m` for 100 starts in any minute"));
            let (starts, per) = value.split_once('/').ok_or_else(wrong)?;
            let per =
                grammar::length(per).or_else(|| grammar::length(&format!("1{per}"))).ok_or_else(wrong)?;
            config.rate_limit = Some(RateLimit::new(number(starts)?, per));
        }
        "record-rejected" => {
            config.record_rejected = match value {
                "yes" | "true" => true,
                "no" | "false" | "-" => false,
                _ => return Err(Failure::usage(format!("`{word}`: write `yes` or `no`"))),
            };
        }
        _ => {
            return Err(Failure::usage(format!(
                "there is no limit `{name}`; there are concurrency, global, per-key, rate, max-size and record-rejected"
            )));
        }
    }
    Ok(())
}

/// Shows a queue; with all its limits if they were asked for.
async fn one(session: &Session, name: &str, is_whole: bool) -> Result<()> {
    let queue = find(session, name).await?;
    let out = session.out;
    if out.is_json() {
        return out.json(&QueueView::of(queue));
    }
    out.table(&table(std::slice::from_ref(&queue)))?;
    if !out.is_for_people() || !is_whole {
        return Ok(());
    }
    let limit =
        |limit: Option<usize>| limit.map_or_else(|| "no limit".to_owned(), |limit| number(limit as u64));
    let rate = queue.rate_limit.map_or_else(
        || "no limit".to_owned(),
        |rate| format!("{} starts in any {}", number(rate.starts as u64), length(rate.per)),
    );
    let from = match queue.limits_from {
        LimitsFrom::Store => "set at run time; `taskflow queues reset` returns to those of the program",
        LimitsFrom::Program => "of the program",
        _ => "no program that runs configures it",
    };
    out.line("")?;
    for (word, value) in [
        ("running, in one process", limit(queue.concurrency)),
        ("running, in all processes", limit(queue.global_concurrency)),
        ("running, of one concurrency key", limit(queue.key_concurrency)),
        ("starts", rate),
        ("waiting", limit(queue.max_size)),
        ("limits", from.to_owned()),
        ("refused since it exists", number(queue.rejected)),
        ("served by", counted(queue.served_by as u64, "process")),
    ] {
        out.line(&format!("{}  {}", out.style.paint(Color::Dim, &format!("{word:31}")), clean(&value)))?;
    }
    Ok(())
}

/// Queues as a table.
pub(in crate::cli) fn table(queues: &[QueueInfo]) -> Table {
    let mut table = Table::new([
        Column::text("QUEUE").least(8),
        Column::number("WAITING"),
        Column::number("OLDEST"),
        Column::number("RUNNING"),
        Column::number("SCHEDULED").rank(2),
        Column::number("DONE/MIN").rank(1),
        Column::text("LIMITS").least(8).rank(3),
        Column::text("STATE"),
    ]);
    for queue in queues {
        let oldest = queue.oldest_waiting;
        let (word, color) = match QueueView::of(queue.clone()).warning() {
            Some(QueueWarning::Paused) => ("paused", Color::Yellow),
            Some(QueueWarning::NoWorker) => ("no process", Color::Red),
            Some(QueueWarning::Full) => ("full", Color::Red),
            _ => ("ok", Color::Green),
        };
        let age = oldest.map_or_else(String::new, length);
        let is_old = oldest.is_some_and(|oldest| oldest.as_secs() >= 60);
        table.push([
            Cell::new(&queue.name),
            Cell::some(queue.waiting()),
            Cell::new(age)
                .raw(oldest.map(|it| it.as_secs_f64().to_string()).unwrap_or_default())
                .color(if is_old { Color::Yellow } else { Color::Plain }),
            Cell::some(queue.running),
            Cell::some(queue.scheduled),
            Cell::some(queue.finished_last_minute),
            Cell::new(limits(queue)),
            Cell::new(word).color(color),
        ]);
    }
    table
}

/// The limits in short, as `queues set` takes them.
fn limits(queue: &QueueInfo) -> String {
    let numbers = [
        ("concurrency", queue.concurrency),
        ("global", queue.global_concurrency),
        ("per-key", queue.key_concurrency),
        ("max-size", queue.max_size),
    ];
    let mut words: Vec<_> =
        numbers.iter().filter_map(|(word, limit)| limit.map(|limit| format!("{word}={limit}"))).collect();
    words.extend(queue.rate_limit.map(|rate| format!("rate={}/{}", rate.starts, length(rate.per))));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn limits_are_set_one_by_one_and_removed_by_a_dash() {
        let mut config = QueueConfig::new().concurrency(3).max_size(5);
        for word in ["concurrency=8", "max-size=-", "rate=100/m", "per-key=1", "record-rejected=yes"] {
            change(&mut config, word).expect(word);
        }
        let expected = QueueConfig::new()
            .concurrency(8)
            .rate_limit(100, Duration::from_secs(60))
            .key_concurrency(1)
            .record_rejected(true);
        assert_eq!(config, expected);
        for wrong in [
            "concurrency",
            "concurrency=x",
            "concurrency=-1",
            "rate=5",
            "rate=/s",
            "speed=1",
            "record-rejected=maybe",
        ] {
            assert!(change(&mut config, wrong).is_err(), "{wrong}");
        }
    }
}
