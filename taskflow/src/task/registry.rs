//! The registry: the tasks of this program, by name.

use std::sync::Arc;

use super::descriptor::Registration;
use super::{Descriptor, States};
use crate::model::{Error, FastMap, RetryPolicy, spelling::closest};

/// The tasks of this program, by name and alias.
#[derive(Debug)]
pub(crate) struct Registry {
    by_name: FastMap<&'static str, Registered>,
    /// All tasks of the program, by their index.
    all: Vec<&'static Descriptor>,
}

/// A task under one of its names, with the data that its runs share.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    /// The name or the alias.
    pub(crate) key: &'static str,
    pub(crate) task: &'static Descriptor,
    /// The index of the task among all tasks of the program.
    pub(crate) index: usize,
    pub(crate) name: Arc<str>,
    /// The policy of its attribute.
    pub(crate) policy: Arc<RetryPolicy>,
}

impl Registered {
    fn new(name: &'static str, task: &'static Descriptor, index: usize) -> Self {
        Self { key: name, task, index, name: name.into(), policy: Arc::new(task.config().policy.clone()) }
    }
}

impl Registry {
    /// Collects all tasks that `#[task]` submitted, in an order that does not depend on the linker.
    ///
    /// # Errors
    /// [`Error::DuplicateTask`] when two tasks have the same name or alias.
    pub(crate) fn collect() -> Result<Self, Error> {
        let (registry, duplicates) = Self::collect_all();
        duplicates.into_iter().next().map_or(Ok(registry), Err)
    }

    /// Collects all tasks, and each name that two of them have, as an [`Error::DuplicateTask`].
    pub(crate) fn collect_all() -> (Self, Vec<Error>) {
        let mut descriptors: Vec<_> = inventory::iter::<Registration>().map(|found| found.0).collect();
        descriptors.sort_by_key(|task| (task.config().name, task.location().file, task.location().line));
        let mut by_name: FastMap<&'static str, Registered> = FastMap::default();
        let mut duplicates = Vec::new();
        for (index, &task) in descriptors.iter().enumerate() {
            for name in names(task) {
                if let Some(first) = by_name.insert(name, Registered::new(name, task, index)) {
                    duplicates.push(Error::DuplicateTask {
                        name: name.to_owned(),
                        first: first.task.location().to_string(),
                        second: task.location().to_string(),
                    });
                }
            }
        }
        (Self { by_name, all: descriptors }, duplicates)
    }

    /// Keeps only the tasks with these names or aliases. Returns an [`Error::UnknownTask`] for each name that is not registered.
    pub(crate) fn keep_only(&mut self, wanted: &[String]) -> Vec<Error> {
        let (mut kept, mut unknown) = (FastMap::default(), Vec::new());
        for name in wanted {
            let Some(task) = self.by_name.get(name.as_str()) else {
                let suggestion = closest(name, self.by_name.keys().copied());
                unknown.push(Error::UnknownTask { name: name.clone(), suggestion });
                continue;
            };
            let (task, index) = (task.task, task.index);
            kept.extend(names(task).map(|name| (name, Registered::new(name, task, index))));
        }
        self.by_name = kept;
        unknown
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Registered> {
        self.by_name.get(name)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// All tasks of the program, by their [index](Registered::index).
    pub(crate) fn all(&self) -> &[&'static Descriptor] {
        &self.all
    }

    /// Each task once, sorted by name.
    pub(crate) fn tasks(&self) -> Vec<&'static Descriptor> {
        let own_name =
            |(name, it): (&&'static str, &Registered)| (*name == it.task.config().name).then_some(it.task);
        let mut tasks: Vec<_> = self.by_name.iter().filter_map(own_name).collect();
        tasks.sort_by_key(|task| task.config().name);
        tasks
    }

    /// The sorted names and aliases of the async tasks, or of all tasks if `with_blocking` is set.
    pub(crate) fn names(&self, with_blocking: bool) -> Arc<[Arc<str>]> {
        let mut names: Vec<Arc<str>> = self
            .by_name
            .values()
            .filter(|it| with_blocking || !it.task.is_blocking())
            .map(|it| it.name.clone())
            .collect();
        names.sort();
        names.into()
    }

    /// An [`Error::MissingState`] for each state that a task needs and that is not provided.
    pub(crate) fn missing_states(&self, states: &States) -> Vec<Error> {
        let missing_of = |task: &'static Descriptor| {
            let needs = task.needs();
            let missing: Vec<_> = needs.missing(states).collect();
            missing
                .into_iter()
                .map(|type_name| Error::MissingState { task: task.config().name.to_owned(), type_name })
        };
        self.tasks().into_iter().flat_map(missing_of).collect()
    }
}

fn names(task: &'static Descriptor) -> impl Iterator<Item = &'static str> {
    std::iter::once(task.config().name).chain(task.config().aliases.iter().copied())
}
