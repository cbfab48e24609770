//! The due tasks a claim may take, first to last.
//!
//! Those of one name in one queue are a *lane*: they lie together in the index, in their order. A claim merges the lanes
//! of the names it knows, so that what nobody here knows costs it nothing, however much there is.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use rusqlite::OptionalExtension;

use super::concurrency_keys::BLOCKED_AT_ONCE;
use super::limits::Room;
use super::queue_counts::QueueNumber;
use super::transaction::{Known, Transaction};
use crate::store::Claim;

/// From the index alone.
const READY: &str = "
SELECT seq, priority FROM taskflow_tasks INDEXED BY taskflow_tasks_ready
WHERE state = 0 AND queue = ?1 AND name = ?2 ORDER BY priority DESC, seq";

/// Reads each row, for its key and whether it may be prefetched.
const READY_ROWS: &str = "
SELECT seq, priority, lost_runs = 0 AND (prefetch = 2 OR (prefetch = 1 AND attempt + 1 < max_attempts)),
       concurrency_key
FROM taskflow_tasks INDEXED BY taskflow_tasks_ready
WHERE state = 0 AND queue = ?1 AND name = ?2 ORDER BY priority DESC, seq";

/// The first lane that has anything, from a name on.
const NEXT_LANE: &str = "
SELECT name, seq FROM taskflow_tasks INDEXED BY taskflow_tasks_ready
WHERE state = 0 AND queue = ?1 AND name >= ?2 ORDER BY name LIMIT 1";

/// A due task that is to be claimed.
pub(super) struct Candidate {
    pub(super) seq: i64,
    pub(super) name: Arc<str>,
    /// Which of the claim's queues it is in.
    pub(super) slot: usize,
    pub(super) queue: QueueNumber,
}

/// The due tasks of one name in one queue.
struct ReadyList {
    room: usize,
    /// Whether more of its tasks is looked at than the index has.
    reads_rows: bool,
    queue: Arc<str>,
    name: Arc<str>,
}

/// What [`choose`] found.
#[derive(Default)]
pub(super) struct Choice {
    pub(super) chosen: Vec<Candidate>,
    /// It would have had to put too many aside: there may be more.
    pub(super) is_cut_short: bool,
    /// It ended at a task that may not be prefetched.
    pub(super) needs_slot: bool,
}

/// The first due tasks for which there is room, as far as a claim may take them. Those whose key is busy are blocked.
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

    let query = |list: &ReadyList| tx.sql.get(if list.reads_rows { READY_ROWS } else { READY });
    let mut queries = lists.iter().map(query).collect::<rusqlite::Result<Vec<_>>>()?;
    let rows = queries.iter_mut().zip(&lists).map(|(query, list)| query.query([&*list.queue, &*list.name]));
    let mut rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    // The heads of all lanes; the least is the next task.
    let mut heads = BinaryHeap::with_capacity(lists.len());
    let mut next = |number: usize| -> rusqlite::Result<Option<_>> {
        let Some(row) = rows[number].next()? else { return Ok(None) };
        let (seq, priority): (i64, i64) = (row.get(0)?, row.get(1)?);
        // A column that cannot be read is found out when the row is.
        let reads_rows = lists[number].reads_rows;
        let may_prefetch = reads_rows && row.get(2).unwrap_or_default();
        let key: Option<String> = if reads_rows { row.get(3).unwrap_or_default() } else { None };
        Ok(Some(Reverse((Reverse(priority), seq, number, may_prefetch, key))))
    };
    for number in 0..lists.len() {
        heads.extend(next(number)?);
    }
    while chosen.len() < claim.limit
        && let Some(Reverse((_, seq, number, may_prefetch, key))) = heads.pop()
    {
        let list = &lists[number];
        let room = &mut rooms[list.room];
        if room.free == 0 {
            continue;
        }
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
            let (slot, queue) = (room.slot, room.queue);
            chosen.push(Candidate { seq, name: Arc::clone(&list.name), slot, queue });
        } else if blocked.len() == BLOCKED_AT_ONCE {
            is_cut_short = true;
            break;
        } else {
            blocked.push((list.room, seq));
        }
        if chosen.len() < claim.limit {
            heads.extend(next(number)?);
        }
    }
    drop(rows);
    for (number, room) in rooms.iter().enumerate() {
        let of_room = blocked.iter().filter(|(room, _)| *room == number).map(|(_, seq)| *seq);
        let seqs: Vec<i64> = of_room.collect();
        tx.block(room.queue, &seqs, room.keys)?;
    }
    Ok(Choice { chosen, is_cut_short, needs_slot })
}

/// The lanes of known names that have anything, in queues where there is room.
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
        let list = |name: &Arc<str>| {
            let (queue, name) = (Arc::clone(queue), Arc::clone(name));
            ReadyList { room: number, reads_rows, queue, name }
        };
        if let [only] = known.sorted() {
            lists.push(list(only));
            continue;
        }
        // From one known name or name that is there to the next that is both: at most as many looks as there are of
        // either.
        let mut names = known.sorted();
        while let Some(first) = names.first() {
            let mut query = tx.sql.get(NEXT_LANE)?;
            let there =
                query.query_row([&**queue, &**first], |row| Ok((row.get::<_, String>(0), row.get(1)?)));
            let there = match there.optional()? {
                None => break,
                Some((Ok(there), _)) => there,
                // It leaves the lane with that.
                Some((Err(error), seq)) => {
                    drop(query);
                    tx.fail_damaged(seq, &error)?;
                    continue;
                }
            };
            names = &names[names.partition_point(|name| **name < *there)..];
            if let [name, rest @ ..] = names
                && **name == *there
            {
                lists.push(list(name));
                names = rest;
            }
        }
    }
    Ok(lists)
}
