//! Limits of queues that hold over all processes together.
//!
//! While a claim's transaction runs, no other process can write to the file. So the values that it reads still hold
//! when it commits, and the limits are exact without any lock of their own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{OptionalExtension, params};

use super::queue_counts::{KeyLimit, QueueNumber};
use super::row;
use super::transaction::Transaction;
use crate::model::RateLimit;
use crate::store::{Claim, ClaimQueue, StartWindow};

const STARTS: &str = "SELECT starts FROM taskflow_queues WHERE name = ?1";

const NOTE_STARTS: &str = "
INSERT INTO taskflow_queues (name, starts) VALUES (?1, ?2)
ON CONFLICT (name) DO UPDATE SET starts = excluded.starts";

/// The queues in which a task waits.
const WAITING: &str = "SELECT name FROM taskflow_queues WHERE due > 0 OR later > 0 OR blocked > 0";

/// The most queues that a claim looks into one by one. A claim of more queues first reads which of them have waiting tasks.
const FEW: usize = 16;

/// The tasks that a claim may take from one queue.
pub(super) struct Room {
    pub(super) name: Arc<str>,
    pub(super) queue: QueueNumber,
    /// The number of tasks that it may still take.
    pub(super) free: usize,
    /// Whether its tasks may be prefetched.
    pub(super) prefetch: bool,
    pub(super) keys: KeyLimit,
    starts: Option<Starts>,
}

/// The starts of a queue with a rate limit.
struct Starts {
    limit: RateLimit,
    window: StartWindow,
    new: usize,
}

impl Room {
    /// Counts one claimed task.
    pub(super) fn take(&mut self) {
        self.free -= 1;
        if let Some(starts) = &mut self.starts {
            starts.new += 1;
        }
    }
}

/// The queues from which a claim can take tasks, each once. Also answers whether all tasks that were blocked under
/// other limits are due again.
pub(super) fn rooms(tx: &mut Transaction<'_, '_>, claim: &Claim) -> rusqlite::Result<(Vec<Room>, bool)> {
    let mut rooms = Vec::new();
    let mut are_all_back = true;
    for asked in asked(tx, claim)? {
        let (name, limits) = (asked.name, asked.shared);
        let queue = tx.counts.queue(&name);
        let (keys, are_back) = tx.limit_keys(queue, limits.key_concurrency.map(row::to_i64))?;
        are_all_back &= are_back;
        let mut free = asked.limit;
        if let Some(most) = limits.global_concurrency {
            let running = usize::try_from(tx.counts.running(queue, tx.sql)?).unwrap_or(0);
            free = free.min(most.saturating_sub(running));
        }
        let mut starts = None;
        if let Some(limit) = limits.rate_limit {
            let window = window(tx, &name)?;
            free = free.min(window.free(limit, tx.now));
            starts = Some(Starts { limit, window, new: 0 });
        }
        rooms.push(Room { name, queue, free, prefetch: asked.prefetch, keys, starts });
    }
    Ok((rooms, are_all_back))
}

/// The queues of a claim in which there is room and a task may wait. A claim of few queues looks into each. A claim of many
/// does not: most of them are empty, and often not even in the file.
fn asked(tx: &mut Transaction<'_, '_>, claim: &Claim) -> rusqlite::Result<Vec<ClaimQueue>> {
    let mut asked: Vec<ClaimQueue> = if claim.queues.len() <= FEW {
        claim.queues.iter().collect()
    } else {
        let mut waiting = tx.sql.get(WAITING)?;
        let names = waiting.query_map([], |row| Ok(row.get::<_, String>(0).ok()))?;
        let mut names = names.filter_map(Result::transpose).collect::<rusqlite::Result<BTreeSet<_>>>()?;
        names.extend(tx.counts.changed().map(str::to_owned));
        names.iter().filter_map(|name| claim.queues.get(name)).collect()
    };
    asked.retain(|queue| queue.limit > 0);
    Ok(asked)
}

/// Stores the starts of queues with a rate limit. Answers how long until another task may start, if a rate limit is
/// used up now.
pub(super) fn count_starts(
    tx: &mut Transaction<'_, '_>,
    rooms: &mut [Room],
) -> rusqlite::Result<Option<Duration>> {
    let mut next_start: Option<i64> = None;
    for room in rooms {
        let Some(Starts { limit, window, new }) = &mut room.starts else { continue };
        if *new > 0 {
            window.start(*limit, tx.now, *new);
            let window = serde_json::to_string(window).expect("numbers can be written as JSON");
            tx.sql.execute(NOTE_STARTS, params![tx.counts.name(room.queue), window])?;
        }
        if tx.counts.pending(room.queue, tx.sql)? > 0 {
            next_start = [next_start, window.next_free(*limit, tx.now)].into_iter().flatten().min();
        }
    }
    Ok(next_start.map(|at| Duration::from_micros(at.abs_diff(tx.now))))
}

fn window(tx: &Transaction<'_, '_>, queue: &str) -> rusqlite::Result<StartWindow> {
    let read = |row: &rusqlite::Row<'_>| Ok(row.get::<_, Option<String>>(0).unwrap_or_default());
    let starts = tx.sql.get(STARTS)?.query_row([queue], read).optional()?.flatten();
    Ok(starts.and_then(|starts| serde_json::from_str(&starts).ok()).unwrap_or_default())
}
