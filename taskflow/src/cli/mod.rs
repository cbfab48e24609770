//! The `taskflow` command, on nothing but the public API of the library.

mod bench;
mod failure;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::failure::Result;

/// Background tasks for Rust.
#[derive(Debug, Parser)]
#[command(name = "taskflow", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure taskflow on a store, beside the same work hand-written on the store's raw driver.
    #[command(long_about = bench::ABOUT)]
    Bench(bench::Options),
    /// Hold tasks waiting and say what memory that takes; the bench runs it as a process of its own.
    #[command(hide = true)]
    BenchMemory(bench::Holding),
}

/// Runs the command that the arguments of the process name.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    match command {
        Command::Bench(options) => runtime.block_on(bench::run(&options)),
        Command::BenchMemory(holding) => runtime.block_on(bench::hold(&holding)),
    }
}
