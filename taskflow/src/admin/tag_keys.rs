//! The keys of tags, which the dashboard and the API suggest for a filter.

use std::collections::BTreeSet;

use super::Actor;
use crate::manager::TaskManager;
use crate::model::{Error, TaskFilter};

/// How many of the newest tasks are read. It is one page, so it costs the same however many tasks there are.
const NEWEST: usize = 500;

/// The tag keys of the newest tasks.
#[derive(Debug)]
pub(crate) struct TagKeys {
    /// Pairs of a key and a queue in which a task has it.
    seen: BTreeSet<(String, String)>,
}

impl TagKeys {
    /// Reads the newest tasks.
    pub(crate) async fn read(tasks: &TaskManager) -> Result<Self, Error> {
        let newest = tasks.list_outlines(&TaskFilter::new().limit(NEWEST)).await?.items;
        let pairs = newest.into_iter().flat_map(|task| {
            let queue = task.queue;
            task.tags.into_keys().map(move |key| (key, queue.clone()))
        });
        Ok(Self { seen: pairs.collect() })
    }

    /// The keys that this actor may see, by name.
    pub(crate) fn seen_by(&self, actor: &Actor) -> Vec<String> {
        let seen = self.seen.iter().filter(|(_, queue)| actor.sees_queue(queue));
        let mut keys: Vec<_> = seen.map(|(key, _)| key.clone()).collect();
        keys.dedup();
        keys
    }
}
