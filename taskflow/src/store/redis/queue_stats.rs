//! How many tasks there are, from the stored counts, and the stored settings of queues.

use std::collections::BTreeMap;
use std::time::Duration;

use super::answer::List;
use super::packed_row::STAGES;
use crate::model::{Counts, LimitsFrom, QueueConfig, QueueInfo, StoreError, TaskStatus};
use crate::store::QueueState;

/// The letters of the stages, as in `constants.lua`.
const LETTERS: &[u8; STAGES.len()] = b"DLAXHRSFICJ";
const LATER: u8 = b'L';

/// A stored count of a queue.
enum Kept {
    /// The tasks in the stage with that letter.
    Tasks(u8, TaskStatus),
    /// The tasks that the queue refused.
    Refused,
    /// The queue is paused.
    Paused,
}

impl Kept {
    fn of(letter: u8) -> Option<Self> {
        match letter {
            b'P' => Some(Self::Paused),
            b'Q' => Some(Self::Refused),
            _ => {
                let stage = LETTERS.iter().position(|one| *one == letter)?;
                Some(Self::Tasks(letter, STAGES[stage]))
            }
        }
    }
}

fn read(mut answer: List<'_>) -> Result<Vec<(Kept, String, u64)>, StoreError> {
    let mut all = Vec::with_capacity(answer.len() / 2);
    while !answer.is_empty() {
        let (field, number) = (answer.bytes()?, answer.bytes()?);
        // A value that is not a number is damaged: the next check repairs it.
        let number: i64 = std::str::from_utf8(&number).ok().and_then(|n| n.parse().ok()).unwrap_or(0);
        let Some((letter, queue)) = field.split_first() else { continue };
        let Some(kept) = Kept::of(*letter) else { continue };
        let queue = String::from_utf8_lossy(queue).into_owned();
        all.push((kept, queue, u64::try_from(number).unwrap_or(0)));
    }
    Ok(all)
}

pub(super) fn counts(answer: List<'_>) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    for (kept, _, n) in read(answer)? {
        if let Kept::Tasks(_, status) = kept {
            *counts.get_mut(status) += n;
        }
    }
    Ok(counts)
}

/// The answer of `queues_main.lua`.
pub(super) fn queues(mut answer: List<'_>) -> Result<Vec<QueueInfo>, StoreError> {
    let mut queues: BTreeMap<String, QueueInfo> = BTreeMap::new();
    for (kept, queue, n) in read(answer.list()?)? {
        if n == 0 {
            continue;
        }
        let info = queues.entry(queue).or_insert_with_key(|name| QueueInfo::new(name.clone()));
        match kept {
            Kept::Paused => info.paused = true,
            Kept::Refused => info.rejected += n,
            Kept::Tasks(letter, TaskStatus::Pending) => {
                info.pending += n;
                info.scheduled += if letter == LATER { n } else { 0 };
            }
            Kept::Tasks(_, TaskStatus::Running) => info.running += n,
            Kept::Tasks(..) => info.finished += n,
        }
    }
    let mut asked = answer.list()?;
    while !asked.is_empty() {
        let (queue, config) = (asked.bytes()?, asked.bytes()?);
        let Ok(queue) = String::from_utf8(queue) else { continue };
        let info = queues.entry(queue).or_insert_with_key(|name| QueueInfo::new(name.clone()));
        if let Some(config) = unpack_config(&config) {
            info.show_limits(&config, LimitsFrom::Store);
        }
    }
    let mut each = |change: fn(&mut QueueInfo, u64)| {
        let mut numbers = answer.list()?;
        while !numbers.is_empty() {
            let (queue, number) = (numbers.bytes()?, u64::try_from(numbers.number()?).unwrap_or(0));
            if let Some(info) = queues.get_mut(&*String::from_utf8_lossy(&queue)) {
                change(info, number);
            }
        }
        Ok::<_, StoreError>(())
    };
    each(|info, overdue| info.scheduled = info.scheduled.saturating_sub(overdue))?;
    each(|info, micros| info.oldest_waiting = Some(Duration::from_micros(micros)))?;
    each(|info, n| info.finished_last_minute = n.min(QueueInfo::MAX_COUNTED))?;
    Ok(queues.into_values().collect())
}

/// The answer of `queue_states_main.lua`.
pub(super) fn queue_states(mut answer: List<'_>) -> Result<Vec<QueueState>, StoreError> {
    let mut states = Vec::with_capacity(answer.len() / 3);
    while !answer.is_empty() {
        let (name, config, paused) = (answer.bytes()?, answer.bytes()?, answer.number()?);
        let Ok(name) = String::from_utf8(name) else { continue };
        states.push(QueueState::new(name, paused != 0, unpack_config(&config)));
    }
    states.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(states)
}

/// A configuration as it is stored: JSON; empty for none.
pub(super) fn pack_config(config: Option<&QueueConfig>) -> Vec<u8> {
    let json = |config| serde_json::to_vec(config).expect("numbers can be written as JSON");
    config.map(json).unwrap_or_default()
}

pub(super) fn unpack_config(json: &[u8]) -> Option<QueueConfig> {
    if json.is_empty() { None } else { serde_json::from_slice(json).ok() }
}
