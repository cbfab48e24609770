//! The `taskflow` command. It uses only the public API of the library.
//!
//! | room | contents |
//! |---|---|
//! | `arguments` | the command line, from which help and completions are made; `options` are those of every verb |
//! | `context`, `session` | the store of a command, and who acts on it |
//! | `select` | ids, beginnings of ids and filters |
//! | `output` | tables, tab-separated lines, JSON; texts made safe for a terminal |
//! | `failure` | errors and exit codes |
//! | `verbs` | a file for each group of verbs |
//! | `top` | the live view on a terminal |
//! | `bench` | measurements |

#![allow(clippy::disallowed_methods, reason = "a program for people, which runs in real time")]

mod arguments;
mod bench;
mod context;
mod failure;
mod options;
mod output;
mod select;
mod session;
mod top;
mod verbs;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use taskflow::admin::Verb;

use self::arguments::{Arguments, Command};
use self::failure::{Code, Failure, Result};
use self::output::{Color, clean_lines};
use self::verbs::{
    add, audit, catalogue, contexts, export, failures, keys, list, logs, many, migrate, queues, schedules,
    secrets, serve, show, stats, status,
};

/// Parses the process's arguments and runs the command.
pub(crate) fn main() -> ExitCode {
    let Arguments { global, command } = Arguments::parse();
    let color = global.color;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return Code::Failed.into();
        }
    };
    let answer = match command {
        Command::Bench(options) => return measured(runtime.block_on(bench::run(&options))),
        Command::BenchMemory(holding) => return measured(runtime.block_on(bench::hold(&holding))),
        command => runtime.block_on(run(&global, command)),
    };
    // A store that does not answer must not delay the exit: calls that still wait for it are dropped.
    runtime.shutdown_background();
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message, hint }) => {
            let style = options::style(color, std::io::stderr().is_terminal());
            if !message.is_empty() {
                eprintln!("{} {}", style.paint(Color::Red, "error:"), clean_lines(&message));
            }
            if let Some(hint) = hint {
                eprintln!("{}", clean_lines(&hint));
            }
            code.into()
        }
    }
}

fn measured(answer: bench::Result<ExitCode>) -> ExitCode {
    answer.unwrap_or_else(|failure| {
        eprintln!("error: {failure}");
        ExitCode::FAILURE
    })
}

async fn run(global: &options::Global, command: Command) -> Result<()> {
    match command {
        Command::Status(options) => status::run(global, &options).await,
        Command::Top(options) => top::run(global, &options).await,
        Command::List(options) => list::list(global, &options).await,
        Command::Count(options) => list::count(global, &options).await,
        Command::Show(options) => show::run(global, &options).await,
        Command::Logs(options) => logs::logs(global, &options).await,
        Command::Wait(options) => logs::wait(global, &options).await,
        Command::Add(options) => add::run(global, &options).await,
        Command::Retry(options) => many::retry(global, &options).await,
        Command::Cancel(options) => many::run(global, Verb::Cancel, &options).await,
        Command::Delete(options) => many::run(global, Verb::Delete, &options).await,
        Command::Failures(options) => failures::run(global, &options).await,
        Command::Queues(options) => queues::run(global, &options).await,
        Command::Schedules(options) => schedules::run(global, &options).await,
        Command::Workers => catalogue::workers(global).await,
        Command::Types(options) => catalogue::types(global, &options).await,
        Command::Stats(options) => stats::run(global, &options).await,
        Command::Audit(options) => audit::audit(global, &options).await,
        Command::Operations(options) => audit::operations(global, &options).await,
        Command::Export(options) => export::run(global, &options).await,
        Command::Serve(options) => serve::run(global, &options).await,
        Command::Migrate(options) => migrate::run(global, &options).await,
        Command::Password => secrets::password(global),
        Command::Token => secrets::token(global),
        Command::Keygen => keys::keygen(global),
        Command::Keys(options) => keys::run(global, &options).await,
        Command::Contexts => contexts::run(global),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "taskflow", &mut script);
            global.out().bytes(&script)
        }
        Command::Bench(_) | Command::BenchMemory(_) => unreachable!("they are run without a session"),
    }
}
