//! A task without its types: what the registry holds and the engine runs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::{Needs, ScheduleSpec, TaskConfig, TaskContext, TaskOutcome};

/// A future whose type is not named.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A task without its types: name, options, place, and how to run it. Made by `#[task]`, in a constant.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    config: &'static TaskConfig,
    parameters: &'static [&'static str],
    location: Location,
    needs: fn(&mut Needs),
    run: Run,
    schedule: Option<&'static ScheduleSpec>,
}

/// Where a task is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The path of the module.
    pub module: &'static str,
    /// The file, as the compiler was given it.
    pub file: &'static str,
    /// The line of the attribute.
    pub line: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.module, self.file, self.line)
    }
}

/// How a task is run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Run {
    /// On the runtime.
    Async(Prepare<BoxFuture<'static, TaskOutcome>>),
    /// On a thread of the blocking pool.
    Blocking(Prepare<BlockingBody>),
}

/// Makes a body of the stored arguments and what the worker provides.
pub(crate) type Prepare<B> = fn(&TaskContext, &str) -> Result<B, RunError>;

/// The body of a synchronous task with its arguments.
pub(crate) type BlockingBody = Box<dyn FnOnce() -> TaskOutcome + Send>;

/// Why a run could not begin.
#[derive(Debug)]
pub(crate) enum RunError {
    /// Its arguments are not what the function takes: no attempt would go better.
    Arguments(String),
    /// What the worker provides could not be made.
    Injection(String),
}

impl Descriptor {
    pub(super) const fn new(
        config: &'static TaskConfig,
        parameters: &'static [&'static str],
        location: Location,
        needs: fn(&mut Needs),
        run: Run,
    ) -> Self {
        Self { config, parameters, location, needs, run, schedule: None }
    }

    /// The descriptor of a schedule.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_schedule(mut self, schedule: &'static ScheduleSpec) -> Self {
        self.schedule = Some(schedule);
        self
    }

    /// Its name and options.
    #[must_use]
    pub fn config(&self) -> &'static TaskConfig {
        self.config
    }

    /// The names of its arguments, which are their keys in the payload.
    #[must_use]
    pub fn parameters(&self) -> &'static [&'static str] {
        self.parameters
    }

    /// Where it is defined.
    #[must_use]
    pub fn location(&self) -> Location {
        self.location
    }

    /// Whether it is a synchronous function.
    #[must_use]
    pub fn is_blocking(&self) -> bool {
        matches!(self.run, Run::Blocking(_))
    }

    /// When it ticks, if it is a schedule.
    #[doc(hidden)]
    #[must_use]
    pub fn schedule(&self) -> Option<&'static ScheduleSpec> {
        self.schedule
    }

    pub(crate) fn run(&self) -> Run {
        self.run
    }

    pub(crate) fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        (self.needs)(&mut needs);
        needs
    }
}

/// A descriptor that found its way into the registry by itself.
#[doc(hidden)]
#[derive(Debug)]
pub struct Registration(pub &'static Descriptor);

inventory::collect!(Registration);
