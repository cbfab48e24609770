//! The `taskflow` command. It uses only the public API of the library.

#![allow(clippy::disallowed_methods, reason = "a program of its own: it measures real time")]

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
    /// Measure taskflow on a store, and the same work hand-written on the store's raw driver.
    #[command(long_about = bench::ABOUT)]
    Bench(bench::Options),
    /// Hold waiting tasks and print the memory they take; the bench runs this command in a separate process.
    #[command(hide = true)]
    BenchMemory(bench::Holding),
}

/// Parses the process's arguments and runs the command.
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
