//! The due tasks that a claim may take, in their order.
//!
//! The due tasks of one name in one queue are a *ready list*: they are next to each other in the index, in their order.
//! A claim merges the ready lists of the names that it knows. So tasks with names that no instance knows never slow a
//! claim down, however many there are.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use rusqlite::{OptionalExtension, Rows};

use super::concurrency_keys::BLOCKED_AT_ONCE;
use super::limits::Room;
use super::queue_counts::QueueNumber;
use super::statements::{Prepared, Statements};
use super::transaction::{Known, Transaction};
use crate::store::Claim;

/// Reads from the index alone.
const READY: &str = "
SELECT seq, priority FROM taskflow_tasks INDEXED BY taskflow_tasks_ready
WHERE state = 0 AND queue = ?1 AND name = ?2 ORDER BY priority DESC, seq";

/// Reads each row, for its concurrency key and whether it may be prefetched.
const READY_ROWS: &str = "
SELECT seq, priority, lost_runs = 0 AND (prefetch = 2 OR (prefetch = 1 AND attempt + 1 < max_attempts)),
       concurrency_key
FROM taskflow_tasks INDEXED BY taskflow_tasks_ready
WHERE state = 0 AND queue = ?1 AND name = ?2 ORDER BY priority DESC, seq";

/// The first ready list that is not empty, from name `?2` on, and its first task.
const NEXT_READY_LIST: &str = "
SELECT name, seq, priority FROM taskflow_tasks INDEXED BY taskflow_tasks_ready
WHERE state = 0 AND queue = ?1 AND name >= ?2 ORDER BY name, priority DESC, seq LIMIT 1";

/// A due task to claim.
pub(super) struct Candidate {
    pub(super) seq: i64,
    pub(super) name: Arc<str>,
    pub(super) queue: QueueNumber,
    pub(super) queue_name: Arc<str>,
}

/// The due tasks of one name in one queue.
struct ReadyList {
    room: usize,
    /// Whether to read the rows of its tasks, and not only the index.
    reads_rows: bool,
    queue: Arc<str>,
    name: Arc<str>,
    /// The place of its first task, if it is known.
    first: Option<Place>,
}

/// The place of a task in the order in which tasks are claimed. The least is the next.
type Place = (Reverse<i64>, i64);

/// A task of a ready list, before it is known whether a claim takes it.
struct Due {
    place: Place,
    may_prefetch: bool,
    concurrency_key: Option<String>,
}

/// Reads the tasks of one ready list, in their order. A list whose first task is known already is opened only when that task
/// is the next of all: there may be thousands of lists, and a claim takes tasks of a few.
struct Reader<'q, 's, 'c> {
    list: &'q ReadyList,
    /// Where to keep the statement of the list; `None` once the list was opened.
    statement: Option<&'q mut Option<Prepared<'s, 'c>>>,
    rows: Option<Rows<'q>>,
    /// The first task that was not taken yet, once it was read.
    head: Option<Due>,
}

impl<'q, 's, 'c> Reader<'q, 's, 'c> {
    fn new(list: &'q ReadyList, statement: &'q mut Option<Prepared<'s, 'c>>) -> Self {
        Self { list, statement: Some(statement), rows: None, head: None }
    }

    /// Reads the next head. Answers its place.
    fn advance(&mut self, sql: &'s Statements<'c>) -> rusqlite::Result<Option<Place>> {
        self.head = self.read(sql)?;
        Ok(self.head.as_ref().map(|due| due.place))
    }

    fn read(&mut self, sql: &'s Statements<'c>) -> rusqlite::Result<Option<Due>> {
        let list = self.list;
        if let Some(statement) = self.statement.take() {
            let statement = statement.insert(sql.get(if list.reads_rows { READY_ROWS } else { READY })?);
            self.rows = Some(statement.query([&*list.queue, &*list.name])?);
        }
        let Some(rows) = &mut self.rows else { return Ok(None) };
        let Some(row) = rows.next()? else { return Ok(None) };
        let place = (Reverse(row.get(1)?), row.get(0)?);
        // A column that cannot be read is noticed when the whole row is read.
        let may_prefetch = list.reads_rows && row.get(2).unwrap_or_default();
        let concurrency_key = if list.reads_rows { row.get(3).unwrap_or_default() } else { None };
        Ok(Some(Due { place, may_prefetch, concurrency_key }))
    }
}

/// The result of [`choose`].
#[derive(Default)]
pub(super) struct Choice {
    pub(super) chosen: Vec<Candidate>,
    /// The choice ended because it had blocked the maximum number of tasks: there may be more tasks to claim.
    pub(super) is_cut_short: bool,
    /// The choice ended at a task that may not be prefetched.
    pub(super) needs_slot: bool,
}

/// Chooses the first due tasks for which there is room and that the claim may take. Blocks tasks whose concurrency key
/// is busy.
pub(super) fn choose(
    tx: &mut Transaction<'_, '_>,
    known: &Known,
    rooms: &mut [Room],
    claim: &Claim,
) -> rusqlite::Result<Choice> {
    let lists = lists(tx, known, rooms, claim)?;
    let Choice { mut chosen, mut is_cut_short, mut needs_slot } = Choice::default();
    let mut blocked = Vec::new();
    let mut running_keys: HashMap<(usize, String), i64> = HashMap::new();

    let mut statements: Vec<_> = lists.iter().map(|_| None).collect();
    let mut readers: Vec<_> =
        lists.iter().zip(&mut statements).map(|(list, statement)| Reader::new(list, statement)).collect();
    // The places of the heads of all ready lists; the least is the next task.
    let mut heads = BinaryHeap::with_capacity(lists.len());
    for (number, list) in lists.iter().enumerate() {
        let place = if list.first.is_some() { list.first } else { readers[number].advance(tx.sql)? };
        heads.extend(place.map(|place| Reverse((place, number))));
    }
    while chosen.len() < claim.limit
        && let Some(Reverse((_, number))) = heads.pop()
    {
        let list = &lists[number];
        let room = &mut rooms[list.room];
        if room.free == 0 {
            continue;
        }
        let reader = &mut readers[number];
        if reader.head.is_none() {
            reader.advance(tx.sql)?;
        }
        let Some(Due { place: (_, seq), may_prefetch, concurrency_key: key }) = reader.head.take() else {
            continue;
        };
        let is_free = match (room.keys.most, key) {
            (Some(most), Some(key)) => {
                let running = match running_keys.entry((list.room, key)) {
                    std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                    std::collections::hash_map::Entry::Vacant(new) => {
                        let running = tx.running_of_key(&list.queue, &new.key().1)?;
                        new.insert(running)
                    }
                };
                let is_free = *running < most;
                *running += i64::from(is_free);
                is_free
            }
            _ => true,
        };
        if is_free {
            if chosen.len() >= claim.slots() && !(room.prefetch && may_prefetch) {
                needs_slot = true;
                break;
            }
            room.take();
            let (name, queue_name) = (Arc::clone(&list.name), Arc::clone(&room.name));
            chosen.push(Candidate { seq, name, queue: room.queue, queue_name });
        } else if blocked.len() == BLOCKED_AT_ONCE {
            is_cut_short = true;
            break;
        } else {
            blocked.push((list.room, seq));
        }
        if chosen.len() < claim.limit {
            heads.extend(reader.advance(tx.sql)?.map(|place| Reverse((place, number))));
        }
    }
    drop(readers);
    drop(statements);
    for (number, room) in rooms.iter().enumerate() {
        let of_room = blocked.iter().filter(|(room, _)| *room == number).map(|(_, seq)| *seq);
        let seqs: Vec<i64> = of_room.collect();
        tx.block(room.queue, &seqs, room.keys)?;
    }
    Ok(Choice { chosen, is_cut_short, needs_slot })
}

/// The ready lists of known names that are not empty, in queues where there is room.
fn lists(
    tx: &mut Transaction<'_, '_>,
    known: &Known,
    rooms: &[Room],
    claim: &Claim,
) -> rusqlite::Result<Vec<ReadyList>> {
    let mut lists = Vec::new();
    for (number, room) in rooms.iter().enumerate() {
        if room.free == 0
            || tx.counts.due(room.queue, tx.sql)? == 0
            || tx.counts.is_paused(room.queue, tx.sql)?
        {
            continue;
        }
        let queue = &Arc::clone(tx.counts.name(room.queue));
        let reads_rows = room.keys.most.is_some() || claim.prefetch > 0;
        let list = |name: &Arc<str>, first| {
            let (queue, name) = (Arc::clone(queue), Arc::clone(name));
            ReadyList { room: number, reads_rows, queue, name, first }
        };
        if let [only] = known.sorted() {
            lists.push(list(only, None));
            continue;
        }
        // Skip from name to name, to those that are both known and in the queue. This takes at most one lookup for each known
        // name, and at most one more than there are names in the queue.
        let mut names = known.sorted();
        while let Some(first) = names.first() {
            let mut query = tx.sql.get(NEXT_READY_LIST)?;
            let there = query.query_row([&**queue, &**first], |row| {
                Ok((row.get::<_, String>(0), row.get(1)?, row.get(2)?))
            });
            let (there, place) = match there.optional()? {
                None => break,
                Some((Ok(there), seq, priority)) => (there, (Reverse(priority), seq)),
                // This takes the damaged task out of the ready list.
                Some((Err(error), seq, _)) => {
                    drop(query);
                    tx.fail_damaged(seq, &error)?;
                    continue;
                }
            };
            names = &names[names.partition_point(|name| **name < *there)..];
            if let [name, rest @ ..] = names
                && **name == *there
            {
                lists.push(list(name, Some(place)));
                names = rest;
            }
        }
    }
    Ok(lists)
}
