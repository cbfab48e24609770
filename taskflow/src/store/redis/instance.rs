//! The known instances.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::List;
use crate::model::{InstanceId, InstanceInfo, StoreError, TaskRecord, time};

/// The minimum time for which a process counts as alive after it was last seen.
pub(super) const ALIVE_AFTER_SEEN: Duration = Duration::from_secs(60);

/// Host and process id of instances, which name them in attempts.
pub(super) type Known = HashMap<InstanceId, (String, u32)>;

/// The maximum number of instances whose names are remembered here.
pub(super) const REMEMBERED: usize = 1000;

/// The stored description of a process, as JSON.
#[derive(Serialize, Deserialize)]
struct Entry {
    host: String,
    pid: u32,
    version: String,
    runs: bool,
    schedules: Vec<String>,
}

pub(super) fn pack(info: &InstanceInfo) -> Vec<u8> {
    let entry = Entry {
        host: info.host.clone(),
        pid: info.pid,
        version: info.version.clone(),
        runs: info.runs,
        schedules: info.schedules.clone(),
    };
    serde_json::to_vec(&entry).expect("strings and numbers can be written as JSON")
}

pub(super) fn name(json: &[u8]) -> Option<(String, u32)> {
    let entry: Entry = serde_json::from_slice(json).ok()?;
    Some((entry.host, entry.pid))
}

pub(super) fn unpack(mut answer: List<'_>) -> Result<Vec<InstanceInfo>, StoreError> {
    let mut instances = Vec::with_capacity(answer.len() / 5);
    while !answer.is_empty() {
        let (id, json) = (answer.instance_id()?, answer.option()?.unwrap_or_default());
        let (started_at, seen_at, running) = (answer.number()?, answer.number()?, answer.number()?);
        let Ok(entry) = serde_json::from_slice::<Entry>(&json) else { continue };
        instances.push(InstanceInfo {
            schedules: entry.schedules,
            id,
            host: entry.host,
            pid: entry.pid,
            version: entry.version,
            runs: entry.runs,
            started_at: time::from_micros(started_at),
            seen_at: time::from_micros(seen_at),
            running: u64::try_from(running).unwrap_or(0),
        });
    }
    instances.sort_unstable_by_key(|it| (it.started_at, it.id));
    Ok(instances)
}

/// The instances that ran attempts of these records.
pub(super) fn named_in(records: &[TaskRecord]) -> Vec<InstanceId> {
    let mut ids: Vec<InstanceId> =
        records.iter().flat_map(|record| &record.attempts).map(|attempt| attempt.instance).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
