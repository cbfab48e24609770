//! How many tasks there are, from the numbers that are kept.

use std::collections::BTreeMap;

use super::answer::List;
use super::state::STAGES;
use crate::model::{Counts, QueueInfo, StoreError, TaskStatus};

/// The letters of the stages, as in `constants.lua`.
const LETTERS: &[u8; STAGES.len()] = b"DLHRSFICJ";

/// A number that is kept: of a queue's tasks in one stage, or that the queue is paused.
enum Kept {
    Tasks(TaskStatus, String, u64),
    Paused(String),
}

fn read(mut answer: List<'_>) -> Result<Vec<Kept>, StoreError> {
    let mut all = Vec::with_capacity(answer.len() / 2);
    while !answer.is_empty() {
        let (field, number) = (answer.bytes()?, answer.number()?);
        let Some((letter, queue)) = field.split_first() else { continue };
        let queue = || String::from_utf8_lossy(queue).into_owned();
        if *letter == b'P' {
            all.push(Kept::Paused(queue()));
        } else if let Some(stage) = LETTERS.iter().position(|one| one == letter) {
            all.push(Kept::Tasks(STAGES[stage], queue(), u64::try_from(number).unwrap_or(0)));
        }
    }
    Ok(all)
}

pub(super) fn counts(answer: List<'_>) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    for kept in read(answer)? {
        if let Kept::Tasks(status, _, n) = kept {
            *counts.get_mut(status) += n;
        }
    }
    Ok(counts)
}

pub(super) fn queues(answer: List<'_>) -> Result<Vec<QueueInfo>, StoreError> {
    let mut queues: BTreeMap<String, QueueInfo> = BTreeMap::new();
    let mut entry = |name: String, change: &dyn Fn(&mut QueueInfo)| {
        change(queues.entry(name.clone()).or_insert_with(|| QueueInfo::new(name)));
    };
    for kept in read(answer)? {
        match kept {
            Kept::Paused(queue) => entry(queue, &|info| info.paused = true),
            Kept::Tasks(_, _, 0) => {}
            Kept::Tasks(TaskStatus::Pending, queue, n) => entry(queue, &|info| info.pending += n),
            Kept::Tasks(TaskStatus::Running, queue, n) => entry(queue, &|info| info.running += n),
            Kept::Tasks(_, queue, n) => entry(queue, &|info| info.finished += n),
        }
    }
    Ok(queues.into_values().collect())
}
