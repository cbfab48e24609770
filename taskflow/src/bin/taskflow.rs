//! The `taskflow` command; `taskflow help` lists what it does.

use std::process::ExitCode;

// The module belongs to this program, not to the library. So it sees only the public API, and the tasks that it registers
// are in no other program.
#[path = "../cli/mod.rs"]
mod cli;

fn main() -> ExitCode {
    cli::main()
}
