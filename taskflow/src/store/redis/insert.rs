//! Packs the arguments of adds and reads their answers.

use std::collections::HashMap;
use std::time::SystemTime;

use super::packed_row::{
    FOR_EVER, HAS_KEY, HAS_RUN_KEY, concurrency_group, exact, key_of, length, pack_body, prefetch_number,
    put_word, ready_list, source_number,
};
use super::script::{AT_ONCE, Call};
use crate::model::{InstanceId, NewTask, TaskId, When, time};
use crate::store::hint_set::HintSet;
use crate::store::{InsertBatch, InsertGroup, InsertTask, Inserted, InsertedAs, Refusal, Start};

/// The maximum number of tasks of one script, unless a single group has more: a script stops all other calls while it
/// runs.
const TASKS_AT_ONCE: usize = 1000;

/// The maximum number of argument bytes of one script, with the same exception.
const BYTES_AT_ONCE: usize = 8 << 20;

/// The answer for one group.
pub(super) type Group = Result<Vec<Inserted>, Refusal>;

/// Splits the groups of a batch into portions that one script may insert. Groups do not depend on each other. A
/// portion is larger only if a single group is.
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

/// The field of an instant that scripts cannot keep exactly; `None` if there is none.
pub(super) fn inexact(groups: &[InsertGroup]) -> Option<&'static str> {
    let is_inexact = |at: SystemTime| time::to_micros(at).unsigned_abs() >= FOR_EVER.unsigned_abs();
    tasks(groups).find_map(|InsertTask { task, .. }| match task.when {
        When::At(at) if is_inexact(at) => Some("run_at"),
        _ => task.expires_at.is_some_and(is_inexact).then_some("expires_at"),
    })
}

/// Whether the arguments of a portion are more than one call should send.
pub(super) fn is_large(groups: &[InsertGroup]) -> bool {
    let size = |it: &InsertTask| it.task.args.as_ref().map_or(0, |args| args.len());
    tasks(groups).count() > TASKS_AT_ONCE || tasks(groups).map(size).sum::<usize>() > BYTES_AT_ONCE
}

/// Splits arguments into parts that one call may send.
pub(super) fn stages<'a, 'b>(arguments: &'b [&'a [u8]]) -> Vec<&'b [&'a [u8]]> {
    let (mut stages, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (n, argument) in arguments.iter().enumerate() {
        if n > from && (n - from >= 4 * TASKS_AT_ONCE || bytes + argument.len() > BYTES_AT_ONCE) {
            stages.push(&arguments[from..n]);
            (from, bytes) = (n, 0);
        }
        bytes += argument.len();
    }
    stages.push(&arguments[from..]);
    stages
}

/// Adds the arguments for these groups.
pub(super) fn pack(call: &mut Call, instance: InstanceId, batch: &InsertBatch, groups: &[InsertGroup]) {
    call.arg(instance.as_bytes()).arg(exact(time::micros(batch.lease)));
    let (classes, number_of) = classes(groups);
    call.arg(classes.len());
    for class in &classes {
        class.pack(call);
    }
    call.arg(number_of.len());
    for InsertTask { task, .. } in tasks(groups) {
        call.arg(task.id.as_bytes()).arg(body(task));
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

/// A body longer than about this is stored separately, as in `constants.lua`. The policy, which adds little, is not
/// counted.
const LONG_BODY: usize = 512;

/// Whether these are plain tasks with short bodies, each a group of its own.
pub(super) fn all_plain(groups: &[InsertGroup]) -> bool {
    let is_short = |task: &NewTask| {
        let tags: usize = task.tags.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
        let trace = task.trace.as_ref().map_or(0, |trace| trace.to_stored().len());
        task.args.as_ref().is_ok_and(|args| args.len() + tags + trace <= LONG_BODY)
    };
    groups.len() <= AT_ONCE
        && groups.iter().all(|group| match &group.tasks[..] {
            [insert] => is_plain(insert) && is_short(&insert.task),
            _ => false,
        })
}

/// What other instances must hear of groups that are all plain: whether tasks wait for any instance.
pub(super) fn changes(groups: &[InsertGroup]) -> HintSet {
    HintSet::WORK.when(tasks(groups).any(|insert| insert.start == Start::Wait))
}

/// Adds the arguments for groups that are all plain.
pub(super) fn pack_plain(call: &mut Call, batch: &InsertBatch, groups: &[InsertGroup]) {
    call.arg(batch.instance.as_bytes()).arg(exact(time::micros(batch.lease)));
    let (classes, number_of) = classes(groups);
    call.arg(classes.len());
    for class in &classes {
        let ready_list = ready_list(class.queue, class.name);
        let end = class.end_of_state(&ready_list);
        call.arg(class.queue).arg(&ready_list).arg(class.start).arg(-i32::from(class.priority));
        call.arg(&end).arg(&end[WORDS_AT..]);
    }
    let mut ids: Vec<_> = tasks(groups).map(|insert| insert.task.id).collect();
    let mut bodies = Vec::with_capacity(128 * ids.len());
    for InsertTask { task, .. } in tasks(groups) {
        put_body(&mut bodies, task);
    }
    let numbers = number_of.iter().filter(|_| classes.len() > 1);
    let numbers = numbers.flat_map(|number| u16::try_from(*number).unwrap_or(u16::MAX).to_le_bytes());
    call.arg(ids.len()).arg(concat(&ids)).arg(bodies).arg(numbers.collect::<Vec<_>>());
    ids.sort_unstable_by(|a, b| b.cmp(a));
    for entry in ids.chunk_by(|a, b| a.as_bytes()[..SHARED] == b.as_bytes()[..SHARED]) {
        for entry in entry.chunks(IDS_OF_AN_ENTRY) {
            call.arg(concat(entry));
        }
    }
}

/// Where ready list and concurrency group begin in the end of a state.
const WORDS_AT: usize = 40;

/// How many bytes the ids of an entry have in common, as in `constants.lua`.
const SHARED: usize = 6;

/// The maximum number of ids of an entry: a search for one id reads the whole entry.
const IDS_OF_AN_ENTRY: usize = 32;

fn concat(ids: &[TaskId]) -> Vec<u8> {
    ids.iter().flat_map(|id| *id.as_bytes()).collect()
}

fn tasks(groups: &[InsertGroup]) -> impl Iterator<Item = &InsertTask> {
    groups.iter().flat_map(|group| &group.tasks)
}

fn body(task: &NewTask) -> Vec<u8> {
    let mut body = Vec::with_capacity(64);
    pack_body(&mut body, task);
    body
}

/// Appends the body of a task, with its length before it.
fn put_body(bytes: &mut Vec<u8>, task: &NewTask) {
    let begin = bytes.len();
    bytes.extend([0; 4]);
    pack_body(bytes, task);
    let long = length(bytes.len() - begin - 4);
    bytes[begin..begin + 4].copy_from_slice(&long);
}

/// The classes of these tasks, and the number of each task's class, from 1 on.
fn classes(groups: &[InsertGroup]) -> (Vec<Class<'_>>, Vec<usize>) {
    let mut classes: Vec<Class<'_>> = Vec::new();
    let mut numbers: HashMap<Class<'_>, usize> = HashMap::new();
    let number_of = tasks(groups)
        .map(|insert| {
            let class = Class::of(insert);
            // Most batches have one class.
            if classes.last() == Some(&class) {
                return classes.len();
            }
            *numbers.entry(class).or_insert_with(|| {
                classes.push(class);
                classes.len()
            })
        })
        .collect();
    (classes, number_of)
}

/// The values that most tasks of a batch have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Class<'a> {
    queue: &'a str,
    name: &'a str,
    plain: bool,
    start: u8,
    priority: i16,
    tries: u32,
    source: u8,
    prefetch: u8,
}

/// Whether a task is due, has no keys, does not expire, is not held, and is added without a `max_size`.
fn is_plain(insert: &InsertTask) -> bool {
    let task = &insert.task;
    task.when == When::Now
        && task.idempotency_key.is_none()
        && task.run_key.is_none()
        && task.concurrency_key.is_none()
        && task.expires_at.is_none()
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
            prefetch: prefetch_number(&task.policy),
        }
    }

    /// Its ready list, a specification that `insert.lua` unpacks as `<BBi2I4BB`, and the end of its states.
    fn pack(&self, call: &mut Call) {
        let ready_list = ready_list(self.queue, self.name);
        let mut specification = vec![u8::from(self.plain), self.start];
        specification.extend(self.priority.to_le_bytes());
        specification.extend(self.tries.to_le_bytes());
        specification.extend([self.source, self.prefetch]);
        call.arg(&ready_list).arg(&specification[..]).arg(self.end_of_state(&ready_list));
    }

    /// The end of a state from the maximum number of attempts on, without the body, as `constants.lua` packs it.
    fn end_of_state(&self, ready_list: &str) -> Vec<u8> {
        let mut end = Vec::with_capacity(44 + ready_list.len());
        end.extend(self.tries.to_le_bytes());
        end.extend(self.tries.to_le_bytes());
        // Neither a scheduled instant nor log lines.
        end.extend([0; 16]);
        end.extend(self.priority.to_le_bytes());
        end.push(self.source);
        // No snoozes.
        end.extend([0; 4]);
        end.push(self.prefetch);
        end.extend(FOR_EVER.to_le_bytes());
        put_word(&mut end, ready_list);
        // Plain tasks are in no concurrency group.
        put_word(&mut end, "");
        end
    }
}

/// The bits of `constants.lua` that describe a task to insert.
const IN_GROUP: u8 = 1;
const RECORD_REJECTED: u8 = 2;

/// Adds what `insert.lua` unpacks as `<Bi8BI4i8B`, the keys, the concurrency group, and the error to record if the
/// task is refused.
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
    bytes.extend(task.expires_at.map_or(FOR_EVER, |at| exact(time::to_micros(at))).to_le_bytes());
    let in_group = if task.concurrency_key.is_some() { IN_GROUP } else { 0 };
    let record = insert.max_size.filter(|_| insert.record_rejected);
    bytes.push(in_group | if record.is_some() { RECORD_REJECTED } else { 0 });
    call.arg(&bytes[..]);
    if let Some(key) = &task.idempotency_key {
        call.arg(key_of(&task.name, key));
    }
    if let Some(key) = &task.run_key {
        call.arg(key);
    }
    if let Some(key) = &task.concurrency_key {
        call.arg(concurrency_group(&task.queue, key));
    }
    if let Some(max_size) = record {
        call.arg(Refusal::QueueFull { queue: task.queue.to_string(), max_size }.error());
    }
}

/// Reads the answer for these groups; `None` if it has another form.
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
