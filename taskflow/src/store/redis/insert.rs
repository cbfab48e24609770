//! Adds, packed for the script and its answer read.

use std::collections::HashMap;

use super::script::Call;
use super::state::{HAS_KEY, HAS_RUN_KEY, exact, key_of, lane, pack_body, source_number};
use crate::model::{InstanceId, TaskId, When, time};
use crate::store::{InsertBatch, InsertGroup, InsertTask, Inserted, InsertedAs, Refusal, Start};

/// The most tasks of one script, unless a single group has more: a script stops everybody else while it runs.
const TASKS_AT_ONCE: usize = 1000;

/// The most bytes of arguments of one script, on the same terms.
const BYTES_AT_ONCE: usize = 8 << 20;

/// The answer for one group.
pub(super) type Group = Result<Vec<Inserted>, Refusal>;

/// The groups of a batch, so many together as one script may insert. Groups do not know of each other.
pub(super) fn portions(groups: &[InsertGroup]) -> Vec<&[InsertGroup]> {
    let mut portions = Vec::new();
    let (mut from, mut tasks, mut bytes) = (0, 0, 0);
    for (n, group) in groups.iter().enumerate() {
        let size =
            group.tasks.iter().map(|it| it.task.args.as_ref().map_or(0, |args| args.len())).sum::<usize>();
        if n > from && (tasks + group.tasks.len() > TASKS_AT_ONCE || bytes + size > BYTES_AT_ONCE) {
            portions.push(&groups[from..n]);
            (from, tasks, bytes) = (n, 0, 0);
        }
        tasks += group.tasks.len();
        bytes += size;
    }
    if from < groups.len() {
        portions.push(&groups[from..]);
    }
    portions
}

/// Adds the arguments for these groups.
pub(super) fn pack(call: &mut Call, instance: InstanceId, batch: &InsertBatch, groups: &[InsertGroup]) {
    call.arg(instance.as_bytes()).arg(exact(time::micros(batch.lease)));
    let tasks = || groups.iter().flat_map(|group| &group.tasks);
    let mut numbers: HashMap<(&str, &str), u32> = HashMap::new();
    let mut lanes = Vec::new();
    for InsertTask { task, .. } in tasks() {
        numbers.entry((&task.queue, &task.name)).or_insert_with(|| {
            lanes.push(lane(&task.queue, &task.name));
            u32::try_from(lanes.len()).expect("fewer lanes than memory has bytes")
        });
    }
    call.list(lanes.iter());
    call.arg(tasks().count());
    for insert in tasks() {
        call.arg(insert.task.id.as_bytes());
    }
    for group in groups {
        let may_be_undone = group.tasks.len() > 1 && group.tasks.iter().any(|it| it.max_size.is_some());
        call.arg(group.tasks.len()).arg(u8::from(may_be_undone));
        for insert in &group.tasks {
            let task = &insert.task;
            let lane = numbers.get(&(&*task.queue, &*task.name)).copied().expect("numbered above");
            call.arg(&specification(insert, lane)[..]);
            // Whoever makes an `InsertTask` has checked the arguments.
            let args = task.args.as_ref().map_or("null", |args| args);
            call.arg(pack_body(&task.policy, &task.tags, args));
            if let Some(key) = &task.idempotency_key {
                call.arg(key_of(&task.name, key));
            }
            if let Some(key) = &task.run_key {
                call.arg(key);
            }
        }
    }
}

/// What `insert.lua` unpacks as `<BBi8i2I4BBI4I4`.
fn specification(insert: &InsertTask, lane: u32) -> Vec<u8> {
    let task = &insert.task;
    let start = match insert.start {
        Start::Wait => 0,
        Start::LeaseIfIdle => 1,
        Start::Lease => 2,
        Start::Hold => 3,
    };
    let (when, value) = match task.when {
        When::Now => (0, 0),
        When::In(length) => (1, exact(time::micros(length))),
        When::At(at) => (2, exact(time::to_micros(at))),
    };
    let key = if task.idempotency_key.is_some() { HAS_KEY } else { 0 };
    let run_key = if task.run_key.is_some() { HAS_RUN_KEY } else { 0 };
    let max_size = insert.max_size.map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX - 1).saturating_add(1));
    let mut bytes = Vec::with_capacity(26);
    bytes.extend([start, when]);
    bytes.extend(value.to_le_bytes());
    bytes.extend(task.priority.to_le_bytes());
    bytes.extend(task.policy.max_attempts().to_le_bytes());
    bytes.extend([key | run_key, source_number(task.source)]);
    bytes.extend(lane.to_le_bytes());
    bytes.extend(max_size.to_le_bytes());
    bytes
}

/// Reads the answer for these groups; `None` if it is not one.
pub(super) fn unpack(mut answer: &[u8], groups: &[InsertGroup]) -> Option<Vec<Group>> {
    groups.iter().map(|group| unpack_group(&mut answer, group)).collect()
}

fn unpack_group(answer: &mut &[u8], group: &InsertGroup) -> Option<Group> {
    let mut inserted = Vec::with_capacity(group.tasks.len());
    for insert in &group.tasks {
        let (word, rest) = answer.split_first()?;
        *answer = rest;
        let id = insert.task.id;
        let mut another = || {
            let (id, rest) = answer.split_first_chunk::<16>()?;
            *answer = rest;
            Some(TaskId::from_bytes(*id))
        };
        inserted.push(match word {
            b'p' => Inserted::new(id, InsertedAs::Pending),
            b'l' => Inserted::new(id, InsertedAs::Leased { fence: 1 }),
            b'h' => Inserted::new(id, InsertedAs::Held { fence: 1 }),
            b'd' => Inserted::new(another()?, InsertedAs::Duplicate),
            b'r' => Inserted::new(another()?, InsertedAs::Replaced),
            _ => {
                let (place, rest) = answer.split_first_chunk::<4>()?;
                *answer = rest;
                let refused = group.tasks.get(usize::try_from(u32::from_le_bytes(*place)).ok()?)?;
                let (queue, max_size) =
                    (refused.task.queue.to_string(), refused.max_size.unwrap_or_default());
                return Some(Err(Refusal::QueueFull { queue, max_size }));
            }
        });
    }
    Some(Ok(inserted))
}
