//! The machine and the time of the measurement: without them the figures mean nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// The machine, and how busy it was.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    /// When the measurement began.
    pub(super) date: String,
    pub(super) cores: usize,
    pub(super) processor: String,
    pub(super) system: String,
    /// The load average over a minute, before and after; the second one includes the bench's own work.
    pub(super) load_before: String,
    pub(super) load_after: String,
    /// Whether it was built with optimizations.
    pub(super) release_build: bool,
}

impl Machine {
    pub(super) fn before() -> Self {
        let processors = read("/proc/cpuinfo");
        let processor = processors.lines().find_map(|line| line.strip_prefix("model name"));
        Self {
            date: now(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: processor
                .map_or_else(unknown, |name| name.trim_start_matches(['\t', ':', ' ']).to_owned()),
            system: format!("{} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim_end()),
            load_before: load(),
            load_after: String::new(),
            release_build: !cfg!(debug_assertions),
        }
    }

    pub(super) fn after(&mut self) {
        self.load_after = load();
    }
}

fn read(path: &str) -> String {
    // Only Linux has these files. The figures are valid without them.
    std::fs::read_to_string(path).unwrap_or_default()
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn load() -> String {
    read("/proc/loadavg").split_whitespace().next().map_or_else(unknown, str::to_owned)
}

/// The current time, to the second, in RFC 3339.
fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let at = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or_else(unknown, |at| at.to_string())
}
