//! `taskflow show`: one task, its attempts and its last log lines.

use std::time::SystemTime;

use clap::Args;
use serde::Serialize;
use taskflow::admin::AdminError;
use taskflow::admin::views::{NumberedLine, WholeTask};
use taskflow::crypt::{Encrypt, Key, Keyring};
use taskflow::{AttemptOutcome, LogLine, TaskRecord};

use super::logs;
use crate::cli::failure::{Failure, Result};
use crate::cli::options::{Acting, Global};
use crate::cli::output::words::{ago, between, instant, length, rfc3339, source, state};
use crate::cli::output::{Cell, Color, Column, Out, Table, clean, clean_lines};
use crate::cli::select;
use crate::cli::session::Session;

/// How many of the last log lines are shown.
const LINES: usize = 10;

/// The longest JSON that is shown without `--args`, in bytes.
const SHORT_JSON: usize = 2_000;

/// The options of `taskflow show`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Options {
    /// The id of the task, or its first 8 characters and more if no other id begins so
    id: String,
    /// Show the whole arguments and the whole result, however long
    #[arg(long)]
    args: bool,
    /// Open what is sealed, with the key in this environment variable; may be repeated. The audit log says who opened it
    #[arg(long, value_name = "VARIABLE")]
    open: Vec<String>,
    #[command(flatten)]
    acting: Acting,
}

pub(in crate::cli) async fn run(global: &Global, options: &Options) -> Result<()> {
    let session = match keys(&options.open)? {
        None => Session::look(global).await?,
        Some(keys) => Session::act_with(global, &options.acting, |it| it.encrypt(Encrypt::new(keys))).await?,
    };
    let id = select::id(&session, &options.id).await?;
    // `lines` has the log lines only if they were opened.
    let (mut record, lines) = match options.open.is_empty() {
        true => (session.console.task(session.actor(), id).await?, None),
        false => {
            let opened = session.console.open(&session.by, id).await.map_err(|error| {
                let is_sealed = matches!(error, AdminError::Sealed { .. });
                let failure = Failure::from(error);
                if is_sealed { failure.hint("name the variable of its key with `--open`") } else { failure }
            })?;
            (opened.record, Some(opened.lines))
        }
    };
    if session.out.is_for_people() {
        record.hide_sealed();
        people(&session, &record, lines, options.args).await?;
    } else if session.out.is_json() {
        let task = WholeTask::of(session.actor(), record, session.console.now());
        match lines {
            None => session.out.json(&task)?,
            Some(lines) => {
                let lines = lines.into_iter().enumerate().map(|(at, line)| NumberedLine::new(at + 1, line));
                session.out.json(&Opened { task, lines: lines.collect() })?;
            }
        }
    } else {
        record.hide_sealed();
        facts(&record).iter().try_for_each(|(word, text, raw)| {
            let mut table = Table::new([Column::text("")]);
            table.push([Cell::new(raw.as_ref().unwrap_or(text))]);
            session.out.line(&format!("{word}\t{}", table.tabs().lines().nth(1).unwrap_or_default()))
        })?;
    }
    session.end().await;
    Ok(())
}

/// A task with its sealed parts opened.
#[derive(Serialize)]
struct Opened {
    #[serde(flatten)]
    task: WholeTask,
    lines: Vec<NumberedLine>,
}

/// The keys in these environment variables; `None` if none is named.
fn keys(variables: &[String]) -> Result<Option<Keyring>> {
    let read = |variable: &String| {
        Key::from_env(variable).map_err(|error| {
            Failure::usage(error.to_string()).hint("`--open` takes the name of an environment variable")
        })
    };
    let Some((first, others)) = variables.split_first() else { return Ok(None) };
    others.iter().try_fold(Keyring::new(read(first)?), |keys, other| Ok(keys.also(read(other)?))).map(Some)
}

/// The facts of a task: the word, what people see, and what programs get if it differs.
pub(in crate::cli) fn facts(record: &TaskRecord) -> Vec<(&'static str, String, Option<String>)> {
    let now = SystemTime::now();
    let at = |at: SystemTime| (format!("{}  ({})", instant(at), ago(at, now)), Some(rfc3339(at)));
    let mut facts = vec![("id", record.id.to_string(), None)];
    let mut push = |word, (text, raw): (String, Option<String>)| facts.push((word, text, raw));
    push("name", (record.name.clone(), None));
    push("status", (state(record).0.to_owned(), None));
    push("queue", (record.queue.clone(), None));
    push(
        "attempt",
        (
            format!("{} of {}", record.attempt, record.max_attempts),
            Some(format!("{}/{}", record.attempt, record.max_attempts)),
        ),
    );
    if record.priority != 0 {
        push("priority", (record.priority.to_string(), None));
    }
    let (text, raw) = at(record.created_at);
    push("added", (format!("{text} by {}", source(record.source)), raw));
    if let Some(planned) = record.scheduled_for {
        push("scheduled for", at(planned));
    }
    if !record.status.is_final() {
        push("due", at(record.run_at));
    }
    for (word, instant) in
        [("expires", record.expires_at), ("started", record.started_at), ("ended", record.finished_at)]
    {
        if let Some(instant) = instant {
            push(word, at(instant));
        }
    }
    if let (Some(from), Some(to)) = (record.started_at, record.finished_at) {
        push("ran", (length(between(from, to)), Some(between(from, to).as_secs_f64().to_string())));
    }
    if let Some(timeout) = record.timeout {
        push("timeout", (length(timeout), Some(timeout.as_secs_f64().to_string())));
    }
    for (word, key) in [
        ("idempotency key", &record.idempotency_key),
        ("run key", &record.run_key),
        ("concurrency key", &record.concurrency_key),
    ] {
        if let Some(key) = key {
            push(word, (key.clone(), None));
        }
    }
    if let Some(trace) = &record.trace {
        push("trace", (trace.trace_id(), None));
    }
    if !record.tags.is_empty() {
        let tags: Vec<_> = record.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        push("tags", (tags.join(" "), None));
    }
    if record.snoozes > 0 {
        push("snoozes", (record.snoozes.to_string(), None));
    }
    if let Some(progress) = &record.progress {
        push("progress", (format!("{:.0} % {}", progress.fraction * 100.0, progress.message), None));
    }
    if let Some(error) = &record.error {
        push("error", (error.clone(), None));
    }
    facts
}

async fn people(
    session: &Session,
    record: &TaskRecord,
    opened: Option<Vec<LogLine>>,
    is_whole: bool,
) -> Result<()> {
    let out = session.out;
    let wide = facts(record).iter().map(|(word, ..)| word.len()).max().unwrap_or(0);
    for (word, text, _) in facts(record) {
        let color = if word == "status" { state(record).1 } else { Color::Plain };
        let shown = match word {
            "error" => clean_lines(&text).replace('\n', &format!("\n{}", " ".repeat(wide + 2))),
            _ => clean(&text),
        };
        let color = if word == "error" { Color::Red } else { color };
        out.line(&format!(
            "{}  {}",
            out.style.paint(Color::Dim, &format!("{word:wide$}")),
            out.style.paint(color, &shown)
        ))?;
    }
    json(out, "arguments", record.args.get(), is_whole)?;
    if let Some(result) = &record.result {
        json(out, "result", result.get(), is_whole)?;
    }
    if !record.attempts.is_empty() {
        heading(out, "attempts")?;
        out.table(&attempts(record))?;
    }
    // `taskflow logs` does not open sealed lines, so all opened lines are shown here.
    let most = if opened.is_some() { usize::MAX } else { LINES };
    let mut lines = match opened {
        Some(lines) => lines,
        None => session.tasks().logs(record.id).await?.unwrap_or_default(),
    };
    lines.iter_mut().for_each(LogLine::hide_sealed);
    if !lines.is_empty() {
        let first = lines.len().saturating_sub(most);
        heading(
            out,
            &match first {
                0 => "log".to_owned(),
                n => format!(
                    "log (the last {LINES} of {} lines: `taskflow logs {}` shows all)",
                    n + LINES,
                    record.id
                ),
            },
        )?;
        for line in &lines[first..] {
            logs::line(out, line)?;
        }
    }
    Ok(())
}

fn heading(out: Out, text: &str) -> Result<()> {
    out.line("")?;
    out.line(&out.style.paint(Color::Bold, text))
}

fn json(out: Out, title: &str, json: &str, is_whole: bool) -> Result<()> {
    if json == "{}" || json == "null" {
        return Ok(());
    }
    heading(out, title)?;
    if json.len() > SHORT_JSON && !is_whole {
        let start = &json[..json.floor_char_boundary(SHORT_JSON)];
        return out.line(&format!("{}…\n({} bytes: `--args` shows all)", clean(start), json.len()));
    }
    out.line(&clean_lines(&indented(json)))
}

/// The JSON with a field on each line. Numbers keep their digits.
pub(in crate::cli) fn indented(json: &str) -> String {
    let (mut text, mut depth, mut in_text, mut is_escaped) =
        (String::with_capacity(json.len() * 2), 0_usize, false, false);
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        if in_text {
            text.push(c);
            in_text = c != '"' || is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            continue;
        }
        let line = |text: &mut String, depth: usize| {
            text.push('\n');
            text.push_str(&"  ".repeat(depth));
        };
        match c {
            '"' => {
                in_text = true;
                text.push(c);
            }
            '{' | '[' => {
                text.push(c);
                while chars.next_if(|c| c.is_whitespace()).is_some() {}
                match chars.next_if(|c| matches!(c, '}' | ']')) {
                    Some(end) => text.push(end),
                    None => {
                        depth += 1;
                        line(&mut text, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(c);
            }
            ',' => {
                text.push(c);
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            c if c.is_whitespace() => {}
            c => text.push(c),
        }
    }
    text
}

/// The attempts as a table.
pub(in crate::cli) fn attempts(record: &TaskRecord) -> Table {
    let now = SystemTime::now();
    let mut table = Table::new([
        Column::number("#"),
        Column::text("OUTCOME"),
        Column::text("STARTED").rank(1),
        Column::number("TOOK"),
        Column::text("PROCESS").least(10).rank(2),
        Column::text("ERROR").least(16),
    ]);
    for attempt in &record.attempts {
        let (word, color) = outcome(attempt.outcome);
        let process = match attempt.host.is_empty() {
            true => attempt.instance.to_string(),
            false => format!("{}:{}", attempt.host, attempt.pid),
        };
        let took = length(between(attempt.started_at, attempt.finished_at.unwrap_or(now)));
        table.push([
            Cell::new(attempt.number.to_string()),
            Cell::new(word).color(color),
            Cell::new(ago(attempt.started_at, now)),
            Cell::new(took),
            Cell::new(process),
            Cell::new(attempt.error.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

fn outcome(outcome: AttemptOutcome) -> (&'static str, Color) {
    match outcome {
        AttemptOutcome::Running => ("running", Color::Blue),
        AttemptOutcome::Success => ("succeeded", Color::Green),
        AttemptOutcome::Failed => ("failed", Color::Red),
        AttemptOutcome::Panicked => ("panicked", Color::Red),
        AttemptOutcome::TimedOut => ("timed out", Color::Red),
        AttemptOutcome::Lost => ("worker lost", Color::Magenta),
        AttemptOutcome::HandedBack => ("handed back", Color::Dim),
        AttemptOutcome::Interrupted => ("interrupted", Color::Magenta),
        AttemptOutcome::Cancelled => ("cancelled", Color::Dim),
        AttemptOutcome::Snoozed => ("snoozed", Color::Dim),
        _ => ("ended", Color::Plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_numbers_keep_their_digits() {
        let json =
            r#"{"big":18446744073709551616,"share":1.10,"text":"a, \"b\": {c}\\","list":[1,[ ]],"none":{}}"#;
        let expected = "{\n  \"big\": 18446744073709551616,\n  \"share\": 1.10,\n  \"text\": \"a, \\\"b\\\": {c}\\\\\",\n  \
                        \"list\": [\n    1,\n    []\n  ],\n  \"none\": {}\n}";
        assert_eq!(indented(json), expected);
    }
}
