//! What a process knows: its tasks, queues and schedules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{ParameterInfo, QueueConfig, TaskInfo};
use crate::task::{Descriptor, Missed, Overlap, Timing};

/// The kind of the documents that hold a catalogue, in parts with the keys `<hash>/<part>`.
pub(super) const CONTENT: &str = "catalogue";

/// The kind of the documents that hold the hash of the catalogue of a process. Their key is the id of the process.
pub(super) const OWNER: &str = "catalogue_of";

/// What a process that runs tasks knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Catalogue {
    /// The tasks that it runs, by name.
    pub(crate) tasks: Vec<TaskInfo>,
    pub(crate) queues: BTreeMap<String, DeclaredQueue>,
    /// The schedules that tick in it, by name.
    pub(crate) schedules: Vec<DeclaredSchedule>,
}

/// A queue that a process configures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeclaredQueue {
    pub(crate) config: QueueConfig,
    /// Whether the process runs its tasks.
    pub(crate) is_served: bool,
}

/// A schedule that a program declares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeclaredSchedule {
    pub(crate) name: String,
    pub(crate) task: String,
    /// When it ticks, as a text for people.
    pub(crate) trigger: String,
    pub(crate) timezone: Option<String>,
    /// The text of its [`Timing`]. Only a newer version may be able to read it.
    pub(crate) timing: String,
    pub(crate) missed: Missed,
    pub(crate) overlap: Overlap,
}

impl Catalogue {
    pub(crate) fn new(
        tasks: &[&'static Descriptor],
        queues: BTreeMap<String, DeclaredQueue>,
        ticking: &[&'static Descriptor],
    ) -> Self {
        Self {
            tasks: tasks.iter().map(|task| task_info(task)).collect(),
            queues,
            schedules: ticking.iter().filter_map(|task| DeclaredSchedule::of(task)).collect(),
        }
    }

    /// The text that is stored. The hash is computed from it.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers and maps by text can be written as JSON")
    }
}

fn task_info(task: &Descriptor) -> TaskInfo {
    let (config, policy) = (task.config(), &task.config().policy);
    let parameters = task.parameters().iter();
    TaskInfo {
        aliases: config.aliases.iter().map(|&alias| alias.to_owned()).collect(),
        summary: task.summary().map(str::to_owned),
        queue: config.queue.to_owned(),
        priority: config.priority,
        retries: policy.retries,
        delay: policy.delay,
        backoff: policy.backoff,
        max_delay: policy.max_delay,
        jitter: policy.jitter,
        timeout: policy.timeout,
        eager: config.eager,
        is_blocking: task.is_blocking(),
        requeue_on_interrupt: policy.requeue_on_interrupt,
        max_snoozes: policy.max_snoozes,
        max_lost_runs: policy.max_lost_runs,
        parameters: parameters
            .map(|it| ParameterInfo::new(it.name.to_owned(), it.type_name.to_owned(), it.is_optional))
            .collect(),
        ..TaskInfo::new(config.name.to_owned())
    }
}

impl DeclaredSchedule {
    /// The schedule of this task, if it has one.
    pub(crate) fn of(task: &Descriptor) -> Option<Self> {
        let spec = task.schedule()?;
        let timing = Timing::from(spec);
        let name = task.config().name.to_owned();
        Some(Self {
            task: name.clone(),
            name,
            trigger: timing.to_string(),
            timezone: timing.timezone.clone(),
            timing: timing.text(),
            missed: spec.missed,
            overlap: spec.overlap,
        })
    }
}

/// The 128-bit FNV-1a hash of a text. It need not be cryptographic, since nobody gains from two texts with the same hash.
pub(super) fn hash(text: &str) -> String {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = text.bytes().fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_published_algorithm() {
        assert_eq!(hash(""), "6c62272e07bb014262b821756295c58d");
        assert_eq!(hash("a"), "d228cb696f1a8caf78912b704e4a8964");
    }
}
