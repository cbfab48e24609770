//! `taskflow add`: adds a task by its name.

use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use taskflow::TaskId;
use taskflow::model::When;

use super::{logs, parse};
use crate::cli::failure::{Code, Failure, Result};
use crate::cli::options::{Acting, Global};
use crate::cli::session::Session;

/// The options of `taskflow add`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Options {
    /// The name of the task: `taskflow types` lists those that the running programs know
    name: String,
    /// An argument: JSON, or a text; may be repeated
    #[arg(long = "arg", short = 'a', value_name = "NAME=VALUE", value_parser = parse::pair)]
    arg: Vec<(String, String)>,
    /// All arguments as one JSON object
    #[arg(long, value_name = "JSON", conflicts_with = "arg")]
    args: Option<String>,
    /// Run it this long from now
    #[arg(long = "in", value_name = "LENGTH", value_parser = parse::length, conflicts_with = "at")]
    run_in: Option<Duration>,
    /// Run it then: RFC 3339, a date, or `+6h`
    #[arg(long, value_name = "INSTANT", value_parser = parse::instant)]
    at: Option<SystemTime>,
    /// The queue, instead of the task's own
    #[arg(long, short = 'q')]
    queue: Option<String>,
    /// The priority, instead of the task's own; higher values run first
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i16>,
    /// The idempotency key: a task that has it is not added twice
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The run key: a waiting task that has it is replaced
    #[arg(long, value_name = "KEY")]
    run_key: Option<String>,
    /// The concurrency key
    #[arg(long, value_name = "KEY")]
    concurrency_key: Option<String>,
    /// A tag; may be repeated
    #[arg(long, short = 't', value_name = "NAME=VALUE", value_parser = parse::pair)]
    tag: Vec<(String, String)>,
    /// Attempts after the first, instead of the task's own number
    #[arg(long)]
    retries: Option<u32>,
    /// The longest time of an attempt, instead of the task's own
    #[arg(long, value_name = "LENGTH", value_parser = parse::length)]
    timeout: Option<Duration>,
    /// Wait until it has ended; the exit code is 1 if it fails
    #[arg(long, short = 'w')]
    wait: bool,
    /// Add it although no running program knows the name, or has other parameters
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    acting: Acting,
}

#[derive(Serialize)]
struct Added {
    id: TaskId,
    duplicate: bool,
    replacement: bool,
}

pub(in crate::cli) async fn run(global: &Global, options: &Options) -> Result<()> {
    let args = arguments(options)?;
    let session = Session::act(global, &options.acting).await?;
    let mut task = session.console.new_task(&options.name, args, options.force).await?;
    if let Some(queue) = &options.queue {
        task.queue = queue.clone().into();
    }
    task.priority = options.priority.unwrap_or(task.priority);
    task.when = match (options.run_in, options.at) {
        (Some(length), _) => When::In(length),
        (None, Some(at)) => When::At(at),
        (None, None) => When::Now,
    };
    task.idempotency_key.clone_from(&options.key);
    task.run_key.clone_from(&options.run_key);
    task.concurrency_key.clone_from(&options.concurrency_key);
    task.tags = options.tag.iter().cloned().collect();
    if let Some(retries) = options.retries {
        task.policy.to_mut().retries = retries;
    }
    if options.timeout.is_some() {
        task.policy.to_mut().timeout = options.timeout;
    }
    let handle = session.console.add(&session.by, task).await?;
    let added =
        Added { id: handle.id(), duplicate: handle.is_duplicate(), replacement: handle.is_replacement() };
    let out = session.out;
    let is_told_later = options.wait && !out.is_for_people();
    if out.is_json() && !is_told_later {
        out.json(&added)?;
    } else if !is_told_later {
        out.line(&added.id.to_string())?;
        if added.duplicate {
            eprintln!("nothing was added: this task has the same key");
        } else if added.replacement {
            eprintln!("the waiting task with this run key was replaced");
        }
    }
    let succeeded = !options.wait || logs::ended(&session, added.id, None).await?;
    session.end().await;
    if succeeded { Ok(()) } else { Err(Failure::silent(Code::Failed)) }
}

/// The JSON object of the arguments.
fn arguments(options: &Options) -> Result<String> {
    if let Some(args) = &options.args {
        return match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(args) {
            Ok(_) => Ok(args.clone()),
            Err(error) => Err(Failure::usage(format!("`--args` is not a JSON object: {error}"))),
        };
    }
    let mut fields: Vec<(String, String)> = Vec::new();
    for (name, value) in &options.arg {
        if fields.iter().any(|(field, _)| field == name) {
            return Err(Failure::usage(format!("the argument `{name}` is given twice")));
        }
        // Numbers keep their digits: the text is passed on as it is.
        let json = serde_json::from_str::<&RawValue>(value).map(|json| json.get().to_owned());
        fields.push((
            name.clone(),
            json.unwrap_or_else(|_| serde_json::Value::from(value.as_str()).to_string()),
        ));
    }
    let fields =
        fields.iter().map(|(name, json)| format!("{}:{json}", serde_json::Value::from(name.as_str())));
    Ok(format!("{{{}}}", fields.collect::<Vec<_>>().join(",")))
}
