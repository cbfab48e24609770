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
    let mut numbers: HashMap<Class<'_>, usize> = HashMap::new();
    let mut classes = Vec::new();
    let number_of: Vec<usize> = tasks()
        .map(|insert| {
            let class = Class::of(insert);
            *numbers.entry(class).or_insert_with(|| {
                classes.push(class);
                classes.len()
            })
        })
        .collect();
    call.arg(classes.len());
    for class in &classes {
        class.pack(call);
    }
    call.arg(number_of.len());
    for InsertTask { task, .. } in tasks() {
        // Whoever makes an `InsertTask` has checked the arguments.
        let args = task.args.as_ref().map_or("null", |args| args);
        call.arg(task.id.as_bytes()).arg(pack_body(&task.policy, &task.tags, args));
    }
    let mut number_of = number_of.into_iter();
    for group in groups {
        let may_be_undone = group.tasks.len() > 1 && group.tasks.iter().any(|it| it.max_size.is_some());
        call.arg(group.tasks.len()).arg(u8::from(may_be_undone));
        for insert in &group.tasks {
            call.arg(number_of.next().expect("each has a class"));
            if !is_plain(insert) {
                pack_specification(call, insert);
            }
        }
    }
}

/// What most tasks of a batch have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Class<'a> {
    queue: &'a str,
    name: &'a str,
    plain: bool,
    start: u8,
    priority: i16,
    tries: u32,
    source: u8,
}

/// Whether a task is due, has no keys, is not held, and its queue has no limit.
fn is_plain(insert: &InsertTask) -> bool {
    let task = &insert.task;
    task.when == When::Now
        && task.idempotency_key.is_none()
        && task.run_key.is_none()
        && insert.max_size.is_none()
        && insert.start != Start::Hold
}

impl<'a> Class<'a> {
    fn of(insert: &'a InsertTask) -> Self {
        let task = &insert.task;
        Self {
            queue: &task.queue,
            name: &task.name,
            plain: is_plain(insert),
            start: match insert.start {
                Start::Wait => 0,
                Start::LeaseIfIdle => 1,
                Start::Lease => 2,
                Start::Hold => 3,
            },
            priority: task.priority,
            tries: task.policy.max_attempts(),
            source: source_number(task.source),
        }
    }

    /// Its lane, what `insert.lua` unpacks as `<BBi2I4B`, and the end of its states: from the greatest number of
    /// attempts on, as `constants.lua` packs them.
    fn pack(&self, call: &mut Call) {
        let lane = lane(self.queue, self.name);
        let mut specification = vec![u8::from(self.plain), self.start];
        specification.extend(self.priority.to_le_bytes());
        specification.extend(self.tries.to_le_bytes());
        specification.push(self.source);
        let mut end = Vec::with_capacity(29 + lane.len());
        end.extend(self.tries.to_le_bytes());
        end.extend(self.tries.to_le_bytes());
        // Neither an instant it was meant for nor lines.
        end.extend([0; 16]);
        end.extend(self.priority.to_le_bytes());
        end.push(self.source);
        end.extend(u16::try_from(lane.len()).unwrap_or(u16::MAX).to_le_bytes());
        end.extend_from_slice(lane.as_bytes());
        call.arg(&lane).arg(&specification[..]).arg(&end[..]);
    }
}

/// What `insert.lua` unpacks as `<Bi8BI4`, and keys.
fn pack_specification(call: &mut Call, insert: &InsertTask) {
    let task = &insert.task;
    let (when, value) = match task.when {
        When::Now => (0, 0),
        When::In(length) => (1, exact(time::micros(length))),
        When::At(at) => (2, exact(time::to_micros(at))),
    };
    let key = if task.idempotency_key.is_some() { HAS_KEY } else { 0 };
    let run_key = if task.run_key.is_some() { HAS_RUN_KEY } else { 0 };
    let max_size = insert.max_size.map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX - 1).saturating_add(1));
    let mut bytes = vec![when];
    bytes.extend(value.to_le_bytes());
    bytes.push(key | run_key);
    bytes.extend(max_size.to_le_bytes());
    call.arg(&bytes[..]);
    if let Some(key) = &task.idempotency_key {
        call.arg(key_of(&task.name, key));
    }
    if let Some(key) = &task.run_key {
        call.arg(key);
    }
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
