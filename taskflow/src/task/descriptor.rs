//! Task descriptors: tasks without their types, as the registry keeps them and the engine runs them.

use std::fmt;

use super::{BoxFuture, Needs, ScheduleSpec, TaskConfig, TaskContext, TaskOutcome};

/// A task without its types: its name, options and location, and how to run it. `#[task]` makes it, in a constant.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    config: &'static TaskConfig,
    parameters: &'static [Parameter],
    summary: Option<&'static str>,
    location: Location,
    needs: fn(&mut Needs),
    run: Run,
    schedule: Option<&'static ScheduleSpec>,
}

/// One argument of a task: a parameter of its function that the payload stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parameter {
    /// Its name, which is its key in the payload.
    pub name: &'static str,
    /// Its type as the source code writes it, such as `Vec<String>`. A text of more than 200 characters is cut off.
    pub type_name: &'static str,
    /// Whether the payload may lack it: its type is an `Option`, or it has `#[arg(default)]`.
    pub is_optional: bool,
}

impl Parameter {
    /// Used by the code that the attribute generates.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(name: &'static str, type_name: &'static str, is_optional: bool) -> Self {
        Self { name, type_name, is_optional }
    }
}

/// The place in the source code where a task is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The path of the module.
    pub module: &'static str,
    /// The path of the file, as it was passed to the compiler.
    pub file: &'static str,
    /// The line of the attribute.
    pub line: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.module, self.file, self.line)
    }
}

/// How to run a task.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Run {
    /// As a future on the runtime.
    Async(Prepare<BoxFuture<'static, TaskOutcome>>),
    /// On a thread of the blocking pool.
    Blocking(Prepare<BlockingBody>),
}

/// Makes the body of a run from its context and its stored arguments.
pub(crate) type Prepare<B> = fn(&TaskContext, &str) -> Result<B, RunError>;

/// The body of a synchronous task with its arguments.
pub(crate) type BlockingBody = Box<dyn FnOnce() -> TaskOutcome + Send>;

/// Why a run cannot begin.
#[derive(Debug)]
pub(crate) enum RunError {
    /// The arguments do not match the function's parameters. A retry would fail in the same way.
    Arguments(String),
    /// A value that the worker provides could not be made.
    Injection(String),
}

impl Descriptor {
    pub(super) const fn new(
        config: &'static TaskConfig,
        parameters: &'static [Parameter],
        location: Location,
        needs: fn(&mut Needs),
        run: Run,
    ) -> Self {
        Self { config, parameters, summary: None, location, needs, run, schedule: None }
    }

    /// The first line of the function's documentation.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_summary(mut self, summary: &'static str) -> Self {
        self.summary = Some(summary);
        self
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

    /// Its arguments, in the order of the function's parameters.
    #[must_use]
    pub fn parameters(&self) -> &'static [Parameter] {
        self.parameters
    }

    /// The first line of the function's documentation, up to 300 characters.
    #[must_use]
    pub fn summary(&self) -> Option<&'static str> {
        self.summary
    }

    /// Where the task is defined.
    #[must_use]
    pub fn location(&self) -> Location {
        self.location
    }

    /// Whether the task is a synchronous function.
    #[must_use]
    pub fn is_blocking(&self) -> bool {
        matches!(self.run, Run::Blocking(_))
    }

    /// When the task ticks, if it is a schedule.
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

/// A descriptor that `#[task]` submits to the registry.
#[doc(hidden)]
#[derive(Debug)]
pub struct Registration(pub &'static Descriptor);

inventory::collect!(Registration);
