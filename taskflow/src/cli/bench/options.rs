//! The command-line options of the bench.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::Serialize;

/// The options of `taskflow bench`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The store to measure: `memory:`, `sqlite://FILE`, `postgres://..` or `redis://..`
    ///
    /// The bench does not touch your data: it creates files beside FILE, or its own namespace on a server, and removes
    /// them at the end.
    #[arg(long, value_name = "URL")]
    pub(super) store: String,
    /// What to measure, separated by commas [default: everything]
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(super) scenario: Vec<Scenario>,
    #[command(flatten)]
    pub(super) load: Load,
    /// How often to measure each scenario; shown are the median, the least and the greatest
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) runs: u16,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Fail if a figure reaches less than this share of its baseline, such as `drain=0.4`; may be repeated
    ///
    /// The ratio says how fast taskflow is compared with the baseline: 2 means twice as fast, or half the time.
    #[arg(long, value_name = "FIGURE=RATIO")]
    pub(super) at_least: Vec<Demand>,
}

/// The amount of work in a scenario.
#[derive(Args, Clone, Copy, Debug, Serialize)]
pub(crate) struct Load {
    /// Number of tasks
    #[arg(long, default_value_t = 10_000, value_parser = at_least_one())]
    pub(super) tasks: u64,
    /// Number of concurrent callers, each awaiting its own adds
    #[arg(long, default_value_t = 16, value_parser = at_least_one())]
    pub(super) callers: u64,
    /// Number of tasks that run at once
    #[arg(long, default_value_t = 64, value_parser = at_least_one())]
    pub(super) slots: u64,
    /// `history`, `watched`: number of finished tasks
    #[arg(long, default_value_t = 1_000_000, value_parser = at_least_one())]
    pub(super) history: u64,
    /// `memory`: number of waiting tasks; `history`: number of tasks that are not due; `scale`: number of waiting tasks to
    /// compare with
    #[arg(long, default_value_t = 100_000, value_parser = at_least_one())]
    pub(super) waiting: u64,
    /// `http`, `http_floor`: number of connections
    #[arg(long, default_value_t = 32, value_parser = at_least_one())]
    pub(super) connections: u64,
    /// `watched`: number of open tabs of the dashboard
    #[arg(long, default_value_t = 10, value_parser = at_least_one())]
    pub(super) tabs: u64,
    /// `pinned`: number of tasks that are finished beside the old snapshot before the measurement
    #[arg(long, default_value_t = 200_000, value_parser = at_least_one())]
    pub(super) pinned: u64,
    /// `paced`: how many minutes it takes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=1440))]
    pub(super) minutes: u64,
    /// `scale`: number of waiting tasks
    #[arg(long, default_value_t = 1_000_000, value_parser = at_least_one())]
    pub(super) backlog: u64,
    /// `scale`: number of names of the waiting tasks
    #[arg(long, default_value_t = 1_000, value_parser = at_least_one())]
    pub(super) names: u64,
    /// `scale`: number of queues of the waiting tasks
    #[arg(long, default_value_t = 100, value_parser = at_least_one())]
    pub(super) queues: u64,
    /// `instances`: number of instances
    #[arg(long, default_value_t = 64, value_parser = at_least_one())]
    pub(super) instances: u64,
    /// At most how often one length of time is measured: the start of a task, a read, a page
    #[arg(long, default_value_t = 400, value_parser = at_least_one())]
    pub(super) samples: u64,
}

impl Load {
    /// The number of tasks that run at once.
    pub(super) fn slots(&self) -> usize {
        usize::try_from(self.slots).unwrap_or(usize::MAX)
    }
}

fn at_least_one() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..)
}

/// The kind of task that a scenario adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BenchTask {
    /// It may run twice.
    Repeatable,
    /// It may not run twice.
    Once,
    /// Its first attempt fails.
    FailsOnce,
}

/// A scenario of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Scenario {
    /// Concurrent callers, each awaiting its own add; nothing runs
    Add,
    /// One caller, 500 tasks a call; nothing runs
    AddAll,
    /// Waiting tasks are run, until all are finished in the store
    Drain,
    /// Concurrent callers add while tasks run, until all of them are finished in the store
    Flow,
    /// `drain` of tasks that may not run twice: none is prefetched
    DrainOnce,
    /// `flow` of tasks that may not run twice
    FlowOnce,
    /// `drain` of tasks that fail once and are tried again at once; the floor runs twice as many tasks, each once
    DrainFailing,
    /// `drain` while 1,000 callers wait for other tasks, compared with nobody waiting
    DrainAwaited,
    /// `flow` while spans are recorded, with one middleware and one observer, compared with nobody listening
    Observed,
    /// One add every 5 ms on an idle worker: from the call to the start of the handler
    Latency,
    /// Adds, claims, counts and lists with many finished tasks, starts while these are deleted, and claims with many tasks
    /// that are not due; each compared with an empty store
    History,
    /// Resident memory with many tasks waiting
    Memory,
    /// A web request that adds a task, held until the response and not, compared with a request that adds none
    Http,
    /// A web request that adds a task, compared with one that adds it to the floor
    HttpFloor,
    /// `flow` and `drain` after `--pinned` finished tasks beside a reader that keeps an old snapshot, compared with no such
    /// reader; PostgreSQL only
    Pinned,
    /// 2,000 adds per second for `--minutes` beside a reader that keeps an old snapshot: the last minute compared with the
    /// first; PostgreSQL only, and only when it is named
    Paced,
    /// Calls of a store with `--backlog` waiting tasks of `--names` names in `--queues` queues, and with payloads of 1 MiB;
    /// compared with `--waiting` such tasks; only when it is named
    Scale,
    /// `drain` and `flow` by `--instances` managers on one store, each with its own connections; compared with one manager; only
    /// when it is named
    Instances,
    /// `drain`, and the time of web requests that add a task and of pages of the dashboard, beside open tabs and many
    /// finished tasks; compared with no open tab
    Watched,
}

impl Scenario {
    /// The kind of task it runs.
    pub(super) fn task(self) -> BenchTask {
        match self {
            Self::DrainOnce | Self::FlowOnce => BenchTask::Once,
            Self::DrainFailing => BenchTask::FailsOnce,
            _ => BenchTask::Repeatable,
        }
    }

    /// The name that options, JSON and the table use.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::AddAll => "add_all",
            Self::Drain => "drain",
            Self::Flow => "flow",
            Self::DrainOnce => "drain_once",
            Self::FlowOnce => "flow_once",
            Self::DrainFailing => "drain_failing",
            Self::DrainAwaited => "drain_awaited",
            Self::Observed => "observed",
            Self::Latency => "latency",
            Self::History => "history",
            Self::Memory => "memory",
            Self::Http => "http",
            Self::HttpFloor => "http_floor",
            Self::Pinned => "pinned",
            Self::Paced => "paced",
            Self::Scale => "scale",
            Self::Instances => "instances",
            Self::Watched => "watched",
        }
    }
}

impl Options {
    /// The requested scenarios, each once, or all that this store has and that do not have to be named.
    pub(super) fn scenarios(&self, has_snapshots: bool) -> super::Result<Vec<Scenario>> {
        let all = Scenario::value_variants().iter().copied();
        if self.scenario.is_empty() {
            let is_default = |one: &Scenario| match one {
                Scenario::Pinned => has_snapshots,
                one => !matches!(one, Scenario::Paced | Scenario::Scale | Scenario::Instances),
            };
            return Ok(all.filter(is_default).collect());
        }
        let needs_snapshots = |one: &&Scenario| matches!(one, Scenario::Pinned | Scenario::Paced);
        if let Some(one) = self.scenario.iter().find(needs_snapshots).filter(|_| !has_snapshots) {
            return Err(format!(
                "`{}` needs PostgreSQL: no reader of this store holds up its cleaning",
                one.name()
            )
            .into());
        }
        Ok(all.filter(|one| self.scenario.contains(one)).collect())
    }
}

/// A figure and the share of its baseline that it must reach.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    /// `drain`, or `latency/p50` if the scenario has several figures.
    pub(super) figure: String,
    pub(super) ratio: f64,
}

impl FromStr for Demand {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('=').and_then(|(figure, ratio)| Some((figure, ratio.parse().ok()?)));
        let Some((figure, ratio)) = parts else {
            return Err("write a figure and a number, such as `drain=0.4` or `latency/p50=0.5`");
        };
        Ok(Self { figure: figure.to_owned(), ratio })
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.figure, self.ratio)
    }
}
