//! The `taskflow` command; `taskflow help` lists what it does.

use std::process::ExitCode;

// Of this program and not of the library: so it sees only what every program sees, and what it registers is registered
// in no other.
#[path = "../cli/mod.rs"]
mod cli;

fn main() -> ExitCode {
    cli::main()
}
