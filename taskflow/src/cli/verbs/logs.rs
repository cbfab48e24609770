//! `taskflow logs` and `taskflow wait`.

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use taskflow::admin::views::NumberedLine;
use taskflow::model::TaskUpdate;
use taskflow::{LogLevel, LogLine, TaskId, TaskStatus};
use tokio::time::Instant;

use super::parse;
use crate::cli::failure::{Code, Failure, Result};
use crate::cli::options::Global;
use crate::cli::output::words::{clock, color, rfc3339};
use crate::cli::output::{Color, Format, Out, clean_lines};
use crate::cli::select;
use crate::cli::session::Session;

/// The options of `taskflow logs`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct LogsOptions {
    /// The id of the task, or its first 8 characters and more
    id: String,
    /// Wait for further lines until the task ends, over retries too; the exit code is 1 if it fails
    #[arg(long, short = 'f')]
    follow: bool,
    /// Only the lines of this attempt
    #[arg(long, value_name = "NUMBER")]
    attempt: Option<u32>,
    /// Only lines of this level and above: `debug`, `info`, `warn` or `error`
    #[arg(long, value_parser = parse::level)]
    level: Option<LogLevel>,
}

impl LogsOptions {
    fn wants(&self, line: &LogLine) -> bool {
        self.attempt.is_none_or(|attempt| attempt == line.attempt)
            && self.level.is_none_or(|level| line.level >= level)
    }
}

pub(in crate::cli) async fn logs(global: &Global, options: &LogsOptions) -> Result<()> {
    let session = Session::look(global).await?;
    let id = select::id(&session, &options.id).await?;
    session.console.task(session.actor(), id).await?;
    if options.follow {
        return follow(&session, id, options).await;
    }
    let lines = session.tasks().logs(id).await?.unwrap_or_default();
    let lines = lines.into_iter().enumerate().map(|(at, line)| (at + 1, line));
    let lines: Vec<_> = lines.filter(|(_, line)| options.wants(line)).collect();
    if session.out.format == Format::Json {
        let all: Vec<_> = lines.into_iter().map(|(n, line)| NumberedLine::new(n, line)).collect();
        session.out.json(&serde_json::json!({ "lines": all }))?;
    } else {
        lines.into_iter().try_for_each(|(n, line)| one(session.out, n, line))?;
    }
    session.end().await;
    Ok(())
}

async fn follow(session: &Session, id: TaskId, options: &LogsOptions) -> Result<()> {
    let mut watch = session.tasks().watch(id);
    let (mut number, mut last) = (0, None);
    while let Some(update) = watch.next().await {
        match update {
            TaskUpdate::Log(line) => {
                number += 1;
                if options.wants(&line) {
                    one(session.out, number, line)?;
                }
            }
            TaskUpdate::Status(status) => last = Some(status),
            TaskUpdate::Unavailable { error } => {
                eprintln!("the store does not answer, trying again: {error}")
            }
            TaskUpdate::Gone => {
                return Err(Failure::not_found(format!("the record of task {id} has been deleted")));
            }
            _ => {}
        }
    }
    session.end().await;
    match last {
        Some(last) if last.status == TaskStatus::Success => Ok(()),
        Some(last) => {
            let error = last.error.map(|error| format!(": {}", clean_lines(&error))).unwrap_or_default();
            Err(Failure::failed(format!("task {id} is {}{error}", last.status)))
        }
        None => Err(Failure::failed(format!("task {id} cannot be followed any more"))),
    }
}

/// One line in the format of the output.
fn one(out: Out, number: usize, mut line: LogLine) -> Result<()> {
    line.hide_sealed();
    match out.format {
        Format::Table => self::line(out, &line),
        Format::Tabs => {
            let message = line.message.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t");
            out.line(&format!("{}\t{}\t{}\t{message}", rfc3339(line.at), line.level, line.attempt))
        }
        // While `--follow` waits, a JSON document would have no end. So it prints one document a line.
        Format::Json | Format::Lines => {
            let text = serde_json::to_string(&NumberedLine::new(number, line));
            out.line(&text.map_err(|error| Failure::failed(error.to_string()))?)
        }
    }
}

/// One line for people.
pub(super) fn line(out: Out, line: &LogLine) -> Result<()> {
    let color = match line.level {
        LogLevel::Debug => Color::Dim,
        LogLevel::Info => Color::Plain,
        LogLevel::Warn => Color::Yellow,
        LogLevel::Error => Color::Red,
    };
    let level = out.style.paint(color, &format!("{:5}", line.level.as_str()));
    let message = clean_lines(&line.message).replace('\n', "\n                        ");
    out.line(&format!("{} #{} {level} {message}", out.style.paint(Color::Dim, &clock(line.at)), line.attempt))
}

/// The options of `taskflow wait`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct WaitOptions {
    /// The ids of the tasks, or their first 8 characters and more
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Wait no longer
    #[arg(long, value_name = "LENGTH", value_parser = parse::length)]
    timeout: Option<Duration>,
}

pub(in crate::cli) async fn wait(global: &Global, options: &WaitOptions) -> Result<()> {
    let session = Session::look(global).await?;
    let mut ids = Vec::new();
    for text in &options.ids {
        let id = select::id(&session, text).await?;
        session.console.task(session.actor(), id).await?;
        ids.push(id);
    }
    let until = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut failed = 0;
    for id in ids {
        failed += usize::from(!ended(&session, id, until).await?);
    }
    session.end().await;
    if failed > 0 { Err(Failure::silent(Code::Failed)) } else { Ok(()) }
}

/// Waits for the end of a task and prints how it ended. Answers whether it succeeded.
pub(super) async fn ended(session: &Session, id: TaskId, until: Option<Instant>) -> Result<bool> {
    let end = async {
        let mut watch = session.tasks().watch(id);
        let mut last = None;
        while let Some(update) = watch.next().await {
            match update {
                TaskUpdate::Status(status) => last = Some(status),
                TaskUpdate::Unavailable { error } => {
                    eprintln!("the store does not answer, trying again: {error}")
                }
                TaskUpdate::Gone => return None,
                _ => {}
            }
        }
        last
    };
    let end = match until {
        Some(until) => tokio::time::timeout_at(until, end).await,
        None => Ok(end.await),
    };
    let Ok(end) = end else {
        return Err(Failure::failed(format!("task {id} has not ended in time"))
            .hint("it goes on; only the waiting has ended"));
    };
    let end = end.ok_or_else(|| Failure::not_found(format!("the record of task {id} has been deleted")))?;
    let out = session.out;
    if out.is_json() {
        let record = session.console.task(session.actor(), id).await?;
        out.json(&taskflow::admin::views::WholeTask::of(session.actor(), record, session.console.now()))?;
    } else if out.is_for_people() {
        let error = end.error.as_deref().map(|error| format!(": {}", clean_lines(error))).unwrap_or_default();
        out.line(&format!("{id}  {}{error}", out.style.paint(color(end.status), end.status.as_str())))?;
    } else {
        out.line(&format!("{id}\t{}", end.status))?;
    }
    Ok(end.status == TaskStatus::Success)
}
