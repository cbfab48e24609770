//! The scenario `memory`: resident memory with many waiting tasks. Each measurement has its own process. A shared one
//! would reuse the memory that an earlier measurement has freed, and would not grow.

use std::process::{ExitCode, Stdio};

use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::Result;
use super::backend::{Backend, Measured, Target};
use super::figure::{Meaning, Sample};
use super::options::Load;
use super::ours::Ours;
use super::queue::Queue;
use super::scenario::add_in_bulk;

/// The arguments of the process that holds the tasks.
#[derive(Args, Clone, Debug)]
pub(crate) struct Holding {
    #[arg(long)]
    store: String,
    /// The name of everything this process creates in the store; its parent removes it if this process cannot.
    #[arg(long)]
    name: String,
    #[arg(long)]
    waiting: u64,
    #[arg(long)]
    slots: usize,
    /// Measure the floor.
    #[arg(long)]
    floor: bool,
}

/// The answer of that process: its resident memory in kB.
#[derive(Debug, Serialize, Deserialize)]
struct Resident {
    empty: u64,
    waiting: u64,
}

/// Measures in a separate process.
pub(super) async fn measure(target: &Target, floor: bool, load: &Load) -> Result<Vec<Sample>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([
        "bench-memory",
        "--store",
        &target.url,
        "--name",
        &target.name,
        "--waiting",
        &load.waiting.to_string(),
    ]);
    command.args(["--slots", &load.slots.to_string()]);
    if floor {
        command.arg("--floor");
    }
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the process that holds waiting tasks ended: {}", why.trim_end()).into());
    }
    let resident: Resident = serde_json::from_slice(&output.stdout)?;
    // The kernel counts pages, so growth of less than one page cannot be measured.
    let grown = resident.waiting.saturating_sub(resident.empty).max(4);
    let sample = |name, kilobytes: u64| Sample {
        name,
        value: kilobytes as f64 / 1_000.0,
        meaning: Meaning::Megabytes,
    };
    Ok(vec![sample("memory/grown", grown), sample("memory/total", resident.waiting)])
}

/// The work of that process.
pub(crate) async fn hold(holding: &Holding) -> Result<ExitCode> {
    let target = Target { url: holding.store.clone(), name: holding.name.clone() };
    super::backend::with(&target, holding).await
}

impl Measured for Holding {
    type Output = ExitCode;

    #[expect(clippy::print_stdout, reason = "its parent reads it")]
    async fn on<B: Backend>(&self, backend: B) -> Result<ExitCode> {
        let resident = if self.floor {
            waiting(backend.floor(self.slots).await?, self.waiting).await
        } else {
            waiting(Ours::open(backend.place()?, self.slots).await?, self.waiting).await
        };
        backend.remove().await?;
        println!("{}", serde_json::to_string(&resident?)?);
        Ok(ExitCode::SUCCESS)
    }
}

async fn waiting<Q: Queue>(queue: Q, tasks: u64) -> Result<Resident> {
    // As in most processes there is a worker, but its queue is paused: it takes none of the tasks.
    let queue = queue.prepare().await?;
    let empty = resident()?;
    add_in_bulk(&queue, tasks).await?;
    let waiting = resident()?;
    queue.close().await?;
    Ok(Resident { empty, waiting })
}

/// The resident memory of this process in kB.
fn resident() -> Result<u64> {
    let path = "/proc/self/status";
    let status = std::fs::read_to_string(path)
        .map_err(|error| format!("resident memory is read from `{path}`, which only Linux has: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let number = line.split_whitespace().next().unwrap_or_default();
    Ok(number.parse().map_err(|_| format!("`{path}` does not say how large this process is"))?)
}
