//! `taskflow keygen` and `taskflow keys`: keys for encryption at rest, and where they are in use.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use taskflow::crypt::{Encrypt, Key, Keyring};
use taskflow::{TaskFilter, TaskStatus};

use crate::cli::failure::{Failure, Result};
use crate::cli::options::{Acting, Global};
use crate::cli::output::words::{counted, number};
use crate::cli::output::{Cell, Column, Table};
use crate::cli::select;
use crate::cli::session::Session;

/// How many records are in memory at once.
const PAGE: usize = 100;

/// The options of `taskflow keys`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Clone, Debug)]
enum Verb {
    /// How many tasks and schedules are sealed with each key. It reads every matching record, and needs no key
    Use(UseOptions),
    /// Seal the arguments of tasks that may still run, and of schedules, with another key
    #[command(after_help = "\
Keys are read from environment variables, so that no other user of the machine sees them.

Example: taskflow keys rewrap --key TASKFLOW_KEY_2026 --also TASKFLOW_KEY_2025 status:pending")]
    Rewrap(RewrapOptions),
}

#[derive(Args, Clone, Debug)]
struct RewrapOptions {
    /// Words that all must match: `status:pending queue:mail`; without any, every task that has not succeeded and every schedule
    #[arg(value_name = "FILTER")]
    words: Vec<String>,
    /// The environment variable with the key to seal with
    #[arg(long, value_name = "VARIABLE")]
    key: String,
    /// An environment variable with a key to replace; may be repeated
    #[arg(long, value_name = "VARIABLE", required = true)]
    also: Vec<String>,
    #[command(flatten)]
    acting: Acting,
}

#[derive(Args, Clone, Debug)]
struct UseOptions {
    /// Words that all must match: `status:pending queue:mail`; without any, every task
    #[arg(value_name = "FILTER")]
    words: Vec<String>,
}

/// Prints a new key.
pub(in crate::cli) fn keygen(global: &Global) -> Result<()> {
    let key = Key::generate();
    let out = global.out();
    if out.is_json() {
        return out.json(&json!({ "id": key.id(), "key": key.secret_text() }));
    }
    out.line(&key.secret_text())?;
    if out.is_for_people() {
        eprintln!(
            "keep it where you keep the password of the store; what it seals cannot be read without it"
        );
    }
    Ok(())
}

pub(in crate::cli) async fn run(global: &Global, options: &Options) -> Result<()> {
    match &options.verb {
        Verb::Use(options) => used(global, options).await,
        Verb::Rewrap(options) => rewrap(global, options).await,
    }
}

async fn rewrap(global: &Global, options: &RewrapOptions) -> Result<()> {
    let read = |variable: &String| {
        Key::from_env(variable).map_err(|error| {
            Failure::usage(error.to_string())
                .hint("`--key` and `--also` take the names of environment variables")
        })
    };
    let mut keys = Keyring::new(read(&options.key)?);
    for variable in &options.also {
        keys = keys.also(read(variable)?);
    }
    let session = Session::act_with(global, &options.acting, |it| it.encrypt(Encrypt::new(keys))).await?;
    let is_all = options.words.is_empty();
    let filter = match is_all {
        true => TaskFilter::all(),
        false => select::filter(&session, &options.words).await?,
    };
    let done = session.console.rewrap(&session.by, filter, is_all).await?;
    session.end().await;
    if session.out.is_json() {
        session.out.json(&done)?;
    } else {
        let missed = match done.missed {
            0 => String::new(),
            missed => format!(", {} changed meanwhile: run it again", number(missed)),
        };
        session.out.line(&format!(
            "{} sealed anew, {} left as they were{missed}",
            number(done.sealed),
            number(done.unchanged)
        ))?;
    }
    if done.refused == 0 {
        return Ok(());
    }
    let why = done.errors.join("; ");
    Err(Failure::failed(format!("{} cannot be opened: {why}", counted(done.refused, "value")))
        .hint("name the variable of a key that is missing with `--also`"))
}

/// How many tasks and schedules one key seals.
#[derive(Clone, Debug, Default, Serialize)]
struct Used {
    waiting: u64,
    running: u64,
    ended: u64,
    schedules: u64,
}

#[derive(Serialize)]
struct Row<'a> {
    /// `null`: not sealed at all.
    key: Option<&'a str>,
    #[serde(flatten)]
    used: &'a Used,
}

async fn used(global: &Global, options: &UseOptions) -> Result<()> {
    let session = Session::look(global).await?;
    let mut filter = match options.words.is_empty() {
        true => TaskFilter::all(),
        false => select::filter(&session, &options.words).await?,
    };
    filter = filter.limit(PAGE);
    let mut keys: BTreeMap<Option<String>, Used> = BTreeMap::new();
    loop {
        let page = session.tasks().list(filter.clone()).await?;
        for record in &page.items {
            let mut named: Vec<_> = record.sealing_keys().map(|key| Some(key.to_owned())).collect();
            named.sort_unstable();
            named.dedup();
            if named.is_empty() {
                named.push(None);
            }
            for key in named {
                let used = keys.entry(key).or_default();
                match record.status {
                    TaskStatus::Pending => used.waiting += 1,
                    TaskStatus::Running => used.running += 1,
                    _ => used.ended += 1,
                }
            }
        }
        let Some(next) = page.next else { break };
        filter.after = Some(next);
    }
    if options.words.is_empty() {
        for schedule in session.tasks().schedules().await?.into_iter().filter(|schedule| schedule.stored) {
            keys.entry(schedule.sealed_with).or_default().schedules += 1;
        }
    }
    let rows: Vec<_> = keys.iter().map(|(key, used)| Row { key: key.as_deref(), used }).collect();
    if session.out.is_for_people() && rows.is_empty() {
        eprintln!("no task matches");
    } else {
        session.out.list(|| table(&keys), &json!({ "items": rows }), &rows)?;
    }
    session.end().await;
    Ok(())
}

fn table(keys: &BTreeMap<Option<String>, Used>) -> Table {
    let mut table = Table::new([
        Column::text("KEY"),
        Column::number("WAITING"),
        Column::number("RUNNING"),
        Column::number("ENDED"),
        Column::number("SCHEDULES"),
    ]);
    for (key, used) in keys {
        let count = |n: u64| Cell::new(number(n)).raw(n.to_string());
        table.push([
            Cell::new(key.as_deref().unwrap_or("not sealed")),
            count(used.waiting),
            count(used.running),
            count(used.ended),
            count(used.schedules),
        ]);
    }
    table
}
