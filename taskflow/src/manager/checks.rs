//! Checks a configuration before the store is opened.

use super::TaskManager;
use super::builder::TaskManagerBuilder;
use super::provided::OwnManager;
use crate::model::spelling::closest;
use crate::model::{Error, limits};
use crate::task::Registry;

type Checked = Result<(), Error>;

impl TaskManagerBuilder {
    /// The tasks that run in this process, and every error that prevents this: two tasks of one name, no task at all, names in
    /// [`only`](Self::only) that no task has, states that the builder does not provide, and queues that are not configured.
    pub(super) fn collect(&mut self, own: &OwnManager) -> (Registry, Vec<Error>) {
        let (mut registry, mut wrong) = Registry::collect_all();
        if registry.is_empty() {
            wrong.push(Error::NoTasks { version: env!("CARGO_PKG_VERSION") });
        }
        if let Some(only) = &self.only {
            wrong.extend(registry.keep_only(only));
        }
        if !self.states.contains::<TaskManager>() {
            own.offer(&mut self.states);
        }
        wrong.extend(registry.missing_states(&self.states));
        let queues = registry.tasks().into_iter().map(|task| {
            let config = task.config();
            self.known_queue(config.queue, Some(config.name))
        });
        wrong.extend(queues.filter_map(Checked::err));
        (registry, wrong)
    }

    /// Checks every name and every duration against its limits.
    pub(super) fn check_names_and_durations(&self) -> impl Iterator<Item = Checked> {
        let mut queues: Vec<_> = self.queues.iter().collect();
        queues.sort_by_key(|(name, _)| *name);
        let queues = queues.into_iter().flat_map(|(name, config)| {
            [limits::name(name).map_err(|refused| refused.in_config("queue", name)), config.check()]
        });
        let lengths = [
            ("lease", self.lease),
            ("retention", self.retention),
            ("add_timeout", self.add_timeout),
            ("cancel_grace", self.cancel_grace),
        ];
        let lengths = lengths.into_iter().map(|(option, length)| {
            limits::length_or_ever(length).map_err(|refused| refused.in_config(option, &length))
        });
        let lease = match self.lease < limits::LEASE_MIN {
            true => Err(Error::Config {
                option: "lease",
                value: format!("{:?}", self.lease),
                message: "a lease shorter than 30ms cannot be renewed in time",
            }),
            false => Ok(()),
        };
        queues.chain(lengths).chain([lease])
    }

    /// Checks that the limits on concurrent tasks are not 0, and that the queues that this process serves are configured.
    pub(super) fn check_limits_and_queues(&self) -> impl Iterator<Item = Checked> {
        let zero = |option, is_zero, message| match is_zero {
            true => Err(Error::Config { option, value: "0".to_owned(), message }),
            false => Ok(()),
        };
        let numbers = [
            zero(
                "max_concurrent_tasks",
                self.max_concurrent_tasks == 0,
                "no task would ever run; use `.connect()` in a process that runs no tasks",
            ),
            zero(
                "max_blocking_threads",
                self.max_blocking_threads == Some(0),
                "synchronous tasks would never run; leave them out with `.only([..])`",
            ),
        ];
        let served = self.run_queues.iter().flatten().map(|queue| self.known_queue(queue, None));
        numbers.into_iter().chain(served)
    }

    fn known_queue(&self, queue: &str, task: Option<&str>) -> Checked {
        if self.queues.contains_key(queue) {
            return Ok(());
        }
        let suggestion = closest(queue, self.queues.keys().map(String::as_str));
        Err(Error::UnknownQueue { queue: queue.to_owned(), suggestion, task: task.map(str::to_owned) })
    }

    /// Everything for which [`start`](Self::start) would refuse this configuration.
    #[cfg(feature = "testing")]
    pub(crate) fn wrong(mut self) -> Vec<Error> {
        let (_, mut wrong) = self.collect(&OwnManager::default());
        wrong.extend(
            self.check_limits_and_queues().chain(self.check_names_and_durations()).filter_map(Checked::err),
        );
        wrong.extend(self.retentions().err());
        wrong
    }
}
