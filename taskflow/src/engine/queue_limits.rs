//! The current limits of each queue: those of this program, unless the store has others. A process that configures no queues
//! itself, such as the command line, learns the queues from the store.

use std::collections::HashMap;

use parking_lot::RwLock;

use crate::model::{AddError, QueueConfig, spelling::closest};
use crate::store::QueueState;

/// The queues that this program configures, with their current limits.
#[derive(Debug)]
pub(crate) struct Queues {
    program: HashMap<String, QueueConfig>,
    now: RwLock<Now>,
}

#[derive(Debug)]
struct Now {
    /// The queue states last read from the store.
    stored: Vec<QueueState>,
    /// The stored configurations by queue.
    configs: HashMap<String, QueueConfig>,
    /// The queues of other programs, in a process that may add to them.
    learned: HashMap<String, QueueConfig>,
}

impl Queues {
    pub(crate) fn new(program: HashMap<String, QueueConfig>) -> Self {
        let now = Now { stored: Vec::new(), configs: HashMap::new(), learned: HashMap::new() };
        Self { program, now: RwLock::new(now) }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.program.keys().map(String::as_str)
    }

    pub(crate) fn knows(&self, name: &str) -> bool {
        self.program.contains_key(name)
    }

    /// The queues of this program with their configurations.
    pub(crate) fn configured(&self) -> impl Iterator<Item = (&str, &QueueConfig)> {
        self.program.iter().map(|(name, config)| (name.as_str(), config))
    }

    /// The configuration of a queue in this program.
    pub(crate) fn program(&self, name: &str) -> Option<&QueueConfig> {
        self.program.get(name)
    }

    /// The limits for an add to this queue: how many tasks may wait in it, and whether a refusal is recorded.
    ///
    /// # Errors
    /// If this program neither configures the queue nor has learned of it.
    pub(crate) fn admission(&self, name: &str) -> Result<(Option<usize>, bool), AddError> {
        let now = self.now.read();
        let Some(own) = self.program.get(name).or_else(|| now.learned.get(name)) else {
            let known = self.names().chain(now.learned.keys().map(String::as_str));
            return Err(AddError::UnknownQueue { queue: name.to_owned(), suggestion: closest(name, known) });
        };
        let config = now.configs.get(name).unwrap_or(own);
        Ok((config.max_size, config.record_rejected))
    }

    /// Calls `take` with the current configuration of each queue.
    pub(super) fn each(&self, mut take: impl FnMut(&str, &QueueConfig)) {
        let now = self.now.read();
        for (name, own) in &self.program {
            take(name, now.configs.get(name).unwrap_or(own));
        }
    }

    /// Takes over the queue states of the store. Returns whether they have changed.
    pub(super) fn learn(&self, stored: Vec<QueueState>) -> bool {
        if self.now.read().stored == stored {
            return false;
        }
        let configs = stored.iter().filter_map(|state| Some((state.name.clone(), state.config.clone()?)));
        let configs: HashMap<_, _> = configs.collect();
        let mut now = self.now.write();
        (now.stored, now.configs) = (stored, configs);
        true
    }

    /// Accepts adds to these queues too, which other programs configure. They replace those learned before.
    #[cfg(feature = "api")]
    pub(crate) fn admit(&self, queues: impl IntoIterator<Item = (String, QueueConfig)>) {
        self.now.write().learned = queues.into_iter().collect();
    }
}
