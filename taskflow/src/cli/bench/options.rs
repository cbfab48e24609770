//! What a bench can be told.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};

/// The options of `taskflow bench`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The store to measure: `memory:`, `sqlite://FILE`, `postgres://..` or `redis://..`
    ///
    /// Nothing of yours is touched: files are made beside FILE, on a server a namespace of its own, and both are
    /// removed at the end.
    #[arg(long, value_name = "URL")]
    pub(super) store: String,
    /// What to measure, apart by commas; everything unless told
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(super) scenario: Vec<Scenario>,
    #[command(flatten)]
    pub(super) load: Load,
    /// How often to measure each: the median is shown, and the least and the greatest
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) runs: u16,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Fail where a figure reaches less of its baseline than this, such as `drain=0.4`; may be repeated
    ///
    /// It is by how much taskflow is as fast: 2 means twice as fast, or half the time.
    #[arg(long, value_name = "FIGURE=RATIO")]
    pub(super) at_least: Vec<Demand>,
}

/// How much work a scenario is.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Load {
    /// How many tasks
    #[arg(long, default_value_t = 10_000, value_parser = at_least_one())]
    pub(super) tasks: u64,
    /// How many callers add at once, each awaiting its own adds
    #[arg(long, default_value_t = 16, value_parser = at_least_one())]
    pub(super) callers: u64,
    /// How many tasks run at once
    #[arg(long, default_value_t = 64, value_parser = at_least_one())]
    pub(super) slots: u64,
    /// `history`: how many finished tasks
    #[arg(long, default_value_t = 1_000_000, value_parser = at_least_one())]
    pub(super) history: u64,
    /// `memory`: how many waiting tasks; `history`: how many that are not due
    #[arg(long, default_value_t = 100_000, value_parser = at_least_one())]
    pub(super) waiting: u64,
    /// `http`: how many connections
    #[arg(long, default_value_t = 32, value_parser = at_least_one())]
    pub(super) connections: u64,
}

impl Load {
    /// How many tasks run at once.
    pub(super) fn slots(&self) -> usize {
        usize::try_from(self.slots).unwrap_or(usize::MAX)
    }
}

fn at_least_one() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..)
}

/// Which task is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BenchTask {
    Repeatable,
    /// It may not run twice.
    Once,
    /// Its first attempt fails.
    FailsOnce,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Scenario {
    /// Concurrent callers, each awaiting its own add; nothing runs
    Add,
    /// One caller, 500 tasks a call; nothing runs
    AddAll,
    /// What waits is run, until all of it is finished in the store
    Drain,
    /// Concurrent callers add while tasks run, until all of them are finished in the store
    Flow,
    /// `drain` of tasks that may not run twice: none is prefetched
    DrainOnce,
    /// `flow` of tasks that may not run twice
    FlowOnce,
    /// `drain` of tasks that fail once and are tried again at once; the floor runs twice as many tasks, each once
    DrainFailing,
    /// One add each 5 ms on an idle worker: from the call to the start of the handler
    Latency,
    /// Adds, claims, counts and lists with many finished tasks, and starts while they are deleted; claims beside many that
    /// are not due; each beside the same with none
    History,
    /// Resident memory with many tasks waiting
    Memory,
    /// A web request that adds a task, beside one that does not
    Http,
}

impl Scenario {
    /// Which tasks it runs.
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
            Self::Latency => "latency",
            Self::History => "history",
            Self::Memory => "memory",
            Self::Http => "http",
        }
    }
}

impl Options {
    /// The scenarios asked for, each once, or all that this program can measure.
    pub(super) fn scenarios(&self) -> super::Result<Vec<Scenario>> {
        let can_serve = cfg!(feature = "axum");
        if self.scenario.contains(&Scenario::Http) && !can_serve {
            return Err(
                "the scenario `http` needs the feature `axum`: build with `--features cli,axum`".into()
            );
        }
        let all = Scenario::value_variants().iter().copied();
        let asked = |one: &Scenario| match self.scenario.as_slice() {
            [] => *one != Scenario::Http || can_serve,
            some => some.contains(one),
        };
        Ok(all.filter(asked).collect())
    }
}

/// A figure, and how much of its baseline it must reach.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    /// `drain`, or `latency/p50` where a scenario has several.
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
