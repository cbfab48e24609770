//! The description of a schedule, declared in an attribute or added at run time and kept in the store.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::{AddError, NewTask, RetryPolicy, TaskSource, When, sealed};
use crate::task::{Descriptor, Missed, Overlap, ScheduleSpec, Ticks, Timing};

/// The description of a schedule.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(super) ticks: Ticks,
    pub(super) run_on_startup: bool,
    pub(super) missed: Missed,
    pub(super) overlap: Overlap,
    /// The stored definition of a schedule that was added at run time.
    pub(super) definition: Option<String>,
    /// The timing, as the store keeps it, of a schedule that this program declares.
    pub(super) declared: Option<String>,
    template: Template,
}

/// The task that each tick adds.
#[derive(Debug)]
enum Template {
    Own(&'static Descriptor),
    Stored(Box<Definition>),
}

impl Plan {
    /// The plan of a schedule that this program declares on `task`.
    ///
    /// # Errors
    /// Returns why the schedule cannot tick on this machine.
    pub(crate) fn of(task: &'static Descriptor, spec: &ScheduleSpec) -> Result<Self, String> {
        let timing = Timing::from(spec);
        Ok(Self {
            name: task.config().name.to_owned(),
            ticks: Ticks::at(&timing)?,
            run_on_startup: spec.run_on_startup,
            missed: spec.missed,
            overlap: spec.overlap,
            definition: None,
            declared: Some(timing.text()),
            template: Template::Own(task),
        })
    }

    /// The plan of a schedule that was added at run time.
    ///
    /// # Errors
    /// Returns why the definition cannot be read or cannot tick on this machine.
    pub(crate) fn stored(name: String, definition: &str) -> Result<Self, String> {
        let text = Some(definition.to_owned());
        let definition = Definition::read(definition)?;
        Ok(Self {
            name,
            definition: text,
            declared: None,
            ticks: Ticks::at(&definition.timing)?,
            run_on_startup: false,
            missed: definition.missed,
            overlap: definition.overlap,
            template: Template::Stored(Box::new(definition)),
        })
    }

    /// The task of a tick.
    pub(crate) fn task(&self, when: When) -> NewTask {
        let mut task = match &self.template {
            Template::Own(task) => {
                let config = task.config();
                // It has no arguments: the attribute refuses parameters that the worker cannot provide.
                let mut task = NewTask::new(config.name, Ok(Arc::from("{}")));
                task.queue = config.queue.into();
                task.priority = config.priority;
                task.policy = Cow::Borrowed(&config.policy);
                task
            }
            Template::Stored(definition) => definition.task(),
        };
        task.source = TaskSource::Schedule;
        task.when = when;
        task
    }
}

/// A schedule that was added at run time, as the store keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Definition {
    pub(crate) timing: Timing,
    pub(crate) missed: Missed,
    pub(crate) overlap: Overlap,
    pub(crate) task: String,
    args: Box<RawValue>,
    pub(crate) queue: String,
    priority: i16,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    concurrency_key: Option<String>,
    #[serde(default)]
    policy: RetryPolicy,
}

impl Definition {
    /// Creates the definition of a schedule that adds `task`.
    ///
    /// # Errors
    /// If the task could not be added, or has options that only a single task can have.
    pub(crate) fn new(
        timing: Timing,
        missed: Missed,
        overlap: Overlap,
        task: NewTask,
    ) -> Result<Self, AddError> {
        let args = task.check()?.to_string();
        let refuse = |option, message: &str| Err(AddError::Option { option, message: message.to_owned() });
        if task.when != When::Now {
            return refuse("run_at", "the schedule decides when its tasks run; remove `run_at`");
        }
        if task.idempotency_key.is_some() {
            return refuse(
                "idempotency_key",
                "each tick of a schedule adds a separate task, once; remove the key",
            );
        }
        if task.run_key.is_some() {
            return refuse("run_key", "each tick of a schedule adds a separate task; remove the key");
        }
        if task.expires_at.is_some() {
            return refuse(
                "expires_at",
                "one instant cannot apply to the many tasks of a schedule; remove it",
            );
        }
        let name = task.name.into_owned();
        Ok(Self {
            timing,
            missed,
            overlap,
            args: RawValue::from_string(args).map_err(|error| AddError::Option {
                option: "args",
                message: format!("the arguments of `{name}` are not JSON: {error}"),
            })?,
            task: name,
            queue: task.queue.into_owned(),
            priority: task.priority,
            tags: task.tags,
            concurrency_key: task.concurrency_key,
            policy: task.policy.into_owned(),
        })
    }

    /// Reads a definition from its stored text.
    ///
    /// # Errors
    /// If it is not valid, for example because a newer version wrote it in another form.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("its definition cannot be read: {error}"))
    }

    /// The id of the key with which its arguments are sealed.
    pub(crate) fn sealed_with(&self) -> Option<&str> {
        sealed::key_of(self.args.get())
    }

    /// Its arguments, sealed or not.
    #[cfg(feature = "encryption")]
    pub(crate) fn args(&self) -> &str {
        self.args.get()
    }

    /// The same definition with these arguments, which are JSON.
    #[cfg(feature = "encryption")]
    pub(crate) fn with_args(self, args: String) -> Self {
        Self { args: RawValue::from_string(args).expect("sealed arguments are JSON"), ..self }
    }

    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("words, numbers and JSON can be written as JSON")
    }

    fn task(&self) -> NewTask {
        let mut task = NewTask::new(self.task.clone(), Ok(Arc::from(self.args.get())));
        task.written = task.args.clone().ok().filter(|args| sealed::is_sealed(args));
        task.queue = Cow::Owned(self.queue.clone());
        task.priority = self.priority;
        task.tags = self.tags.clone();
        task.concurrency_key.clone_from(&self.concurrency_key);
        task.policy = Cow::Owned(self.policy.clone());
        task
    }
}
