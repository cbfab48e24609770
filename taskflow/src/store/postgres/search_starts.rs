//! Where claims start to search the index of due tasks.
//!
//! A task that is claimed leaves an entry in that index until the table is vacuumed. While any transaction of the
//! server holds an old snapshot, a vacuum removes none of them, and a claim that searches from the beginning steps over
//! all tasks that were claimed since. So a process remembers for each queue and priority a place (a `seq`) before which
//! its claims find no more tasks, and its claims start there.
//!
//! Starts are used only while they are worth it: from a claim that takes longer than its tasks need, until a look at all
//! that is below the starts takes the server less than a millisecond. Without an old snapshot a look is that fast, because a
//! search marks the entries that no transaction can see any more.
//!
//! In the same way, tasks with a delay leave entries in the index that is ordered by the time at which they come due.
//!
//! A task can appear below that start: it was added by a transaction that took long, or it waits again after a run, a hold or
//! a delay. The next claims of this process look up by id the tasks that it has itself made due again.
//! [`look_below`](super::search_sql::look_below) finds all others, about once a second, or less often if that takes long. So
//! a start is only a hint, and a wrong one is corrected.
//!
//! The idea is the batch cursor of PgQ.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use super::contention::Contention;
use super::prune_start::PruneStart;
use super::recovery_start::RecoveryStart;
use super::value::{self, length};
use crate::model::TaskId;

/// How long ago a claim must have seen a task before claims start there: the inserts that were under way at that time
/// have ended since.
const MARGIN: Duration = Duration::from_millis(100);
/// A search for tasks that have come due starts this much earlier than the instant at which none was found, in
/// microseconds: a transaction may commit a task this long after it has come due.
const LATE: i64 = 1_000_000;
/// Starts are used if it takes the server at least this long to search what is below them, or if a claim takes this much
/// longer than its tasks need.
const WORTH: Duration = Duration::from_millis(1);
/// How long the server needs at most for each task that begins and each run that ends, on a machine that is not
/// overloaded.
const PER_TASK: Duration = Duration::from_micros(40);
/// The shortest time between two looks below the starts: somewhat less than the time between two recoveries, each of
/// which makes a look if it is time to.
const LOOK_EVERY: Duration = Duration::from_millis(800);
/// Looks below the starts may take one part in this many of the time: they step over all entries that claims no longer
/// step over.
const LOOK_SHARE: u32 = 50;
/// The most tasks to be looked up by id. If there are more, claims search from the beginning again.
pub(super) const MOST_BELOW: usize = 128;
/// The most priorities of a queue whose starts are remembered.
const PRIORITIES: usize = 4;
/// The most queues whose starts are remembered.
const QUEUES: usize = 1_000;
/// The most sets of task names, one for each kind of claim, whose starts are remembered.
const SETS: usize = 8;

/// The names that a claim asks for. A process has few such sets, and each exists once, so sets are compared by their
/// addresses.
type Names = Arc<[Arc<str>]>;

/// The starts of all searches of a store.
#[derive(Debug, Default)]
pub(super) struct SearchStarts {
    pub(super) recovery: RecoveryStart,
    pub(super) prune: PruneStart,
    pub(super) contention: Contention,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The starts of each set of names: claims that ask for other names leave other tasks in a queue.
    sets: Vec<(Names, HashMap<String, Bands>)>,
    /// Tasks that may be due and below a start.
    below: Vec<TaskId>,
    /// When each insert that is under way began.
    inserts: BTreeMap<u64, Instant>,
    next_insert: u64,
    look_at: Option<Instant>,
    /// Whether claims use the starts.
    is_worth: bool,
    /// Whether claims have taken tasks since the last look.
    has_taken: bool,
    /// How many of `below` were noted before the look that is under way began: it finds them again if they still wait.
    looked_for: usize,
    /// From when on tasks may have come due that are not marked as due: by the server's clock, in microseconds.
    later: Option<i64>,
    parts: Parts,
}

/// The priorities of a queue, the highest first.
type Bands = Vec<Band>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Band {
    priority: i16,
    /// The `seq` at which claims start. `since` is when it was known to be a start.
    start: i64,
    since: Instant,
    /// When an earlier claim began, and the `seq` of the first task that it found.
    seen: (Instant, i64),
}

/// What a statement searches: ranges of priorities of queues, and tasks by their ids.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Search {
    pub(super) queues: Vec<String>,
    pub(super) low: Vec<i16>,
    pub(super) high: Vec<i16>,
    /// Where to start in a single priority; none for a range that is searched from its beginning.
    pub(super) starts: Vec<Option<i64>>,
    pub(super) below: Vec<Uuid>,
    /// From when on tasks may have come due that are not marked as due.
    pub(super) later: Option<value::Instant>,
}

impl Search {
    /// Whether this searches one queue only, all of it from the beginning.
    pub(super) fn is_all_of_one(&self) -> bool {
        self.starts.len() == 1 && self.starts[0].is_none() && self.below.is_empty()
    }

    fn range(&mut self, queue: &str, low: i16, high: i16, start: Option<i64>) {
        self.queues.push(queue.to_owned());
        self.low.push(low);
        self.high.push(high);
        self.starts.push(start);
    }

    /// Adds the ranges of a queue.
    fn add(&mut self, queue: &str, bands: &[Band]) {
        let mut high = Some(i16::MAX);
        for band in bands {
            match (band.priority.checked_add(1), high) {
                (Some(above), Some(high)) if above <= high => self.range(queue, above, high, None),
                _ => {}
            }
            self.range(queue, band.priority, band.priority, Some(band.start));
            high = band.priority.checked_sub(1);
        }
        if let Some(high) = high {
            self.range(queue, i16::MIN, high, None);
        }
    }
}

/// A task that waits again and is due.
#[derive(Clone, Debug)]
pub(super) struct DueAgain {
    id: TaskId,
    /// In its stored form.
    queue: String,
    priority: i16,
    seq: i64,
}

impl DueAgain {
    /// A task in a queue, whose name is in its stored form.
    pub(super) fn new(id: TaskId, queue: String, priority: i16, seq: i64) -> Self {
        Self { id, queue, priority, seq }
    }

    fn is_below(&self, queues: &HashMap<String, Bands>) -> bool {
        let mut bands = queues.get(&self.queue).into_iter().flatten();
        bands.any(|band| band.priority == self.priority && self.seq < band.start)
    }
}

/// An insert that is under way, until this is dropped.
#[derive(Debug)]
pub(super) struct Inserting<'a> {
    starts: &'a SearchStarts,
    number: u64,
}

impl Drop for Inserting<'_> {
    fn drop(&mut self) {
        self.starts.state.lock().inserts.remove(&self.number);
    }
}

impl SearchStarts {
    /// What a claim for these names searches in these queues. `due_again` are due once its transaction is committed.
    pub(super) fn search<'q>(
        &self,
        names: &Names,
        queues: impl Iterator<Item = &'q str> + Clone,
        due_again: &[DueAgain],
    ) -> Search {
        let state = self.state.lock();
        let mut search = Search { later: state.later(), ..Search::default() };
        let sets = if state.is_worth { &*state.sets } else { &[] };
        let set = sets.iter().find(|(known, _)| Arc::ptr_eq(known, names)).map(|(_, queues)| queues);
        if let Some(set) = set {
            let also = due_again.iter().filter(|task| task.is_below(set)).map(|task| task.id);
            search.below = state.below.iter().copied().chain(also).map(Uuid::from).collect();
        }
        // Looking up more tasks by their ids takes longer than a search from the beginning.
        let set = set.filter(|_| search.below.len() <= MOST_BELOW);
        for queue in queues {
            search.add(queue, set.and_then(|set| set.get(queue)).map_or(&[], |bands| &**bands));
        }
        search
    }

    /// Where to search these queues for any due task, whatever its name.
    pub(super) fn search_any<'q>(&self, queues: impl Iterator<Item = &'q str>) -> Search {
        let state = self.state.lock();
        let mut search = Search { later: state.later(), ..Search::default() };
        let is_worth = state.is_worth && state.below.len() <= MOST_BELOW;
        let sets = if is_worth { &*state.sets } else { &[] };
        if is_worth {
            search.below = state.below.iter().copied().map(Uuid::from).collect();
        }
        for queue in queues {
            // Each set of names leaves other tasks in the queue: only the lowest start holds for all.
            let mut lowest: BTreeMap<Reverse<i16>, Band> = BTreeMap::new();
            for band in sets.iter().filter_map(|(_, set)| set.get(queue)).flatten() {
                let known = lowest.entry(Reverse(band.priority)).or_insert(*band);
                known.start = known.start.min(band.start);
            }
            search.add(queue, &lowest.into_values().collect::<Vec<_>>());
        }
        search
    }

    /// Notes what a claim for these names has taken: the queue, the priority and the `seq` of each task. `began` is when the
    /// claim began, `took` how long the server needed for it, and `ended` how many runs it ended.
    pub(super) fn claimed(
        &self,
        names: &Names,
        taken: Vec<(&str, i16, i64)>,
        (began, took, ended): (Instant, Duration, usize),
    ) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.has_taken |= !taken.is_empty();
        let tasks = u32::try_from(taken.len() + ended).unwrap_or(u32::MAX);
        state.is_worth |= took > WORTH + tasks * PER_TASK;
        let oldest_insert = state.inserts.values().next().copied();
        let set = match state.sets.iter().position(|(known, _)| Arc::ptr_eq(known, names)) {
            Some(set) => set,
            None => {
                if state.sets.len() == SETS {
                    state.sets.remove(0);
                }
                state.sets.push((names.clone(), HashMap::new()));
                state.sets.len() - 1
            }
        };
        let queues = &mut state.sets[set].1;
        let mut first: HashMap<(&str, i16), i64> = HashMap::new();
        for (queue, priority, seq) in taken {
            let bands = queues.get(queue);
            let band = bands.and_then(|bands| bands.iter().find(|band| band.priority == priority));
            // A task that was looked up by its id says nothing about the tasks between it and the start.
            if band.is_none_or(|band| seq >= band.start) {
                first.entry((queue, priority)).and_modify(|first| *first = seq.min(*first)).or_insert(seq);
            }
        }
        for ((queue, priority), seq) in first {
            if !queues.contains_key(queue) {
                if queues.len() >= QUEUES {
                    continue;
                }
                queues.insert(queue.to_owned(), Bands::new());
            }
            let Some(bands) = queues.get_mut(queue) else { continue };
            match bands.binary_search_by_key(&Reverse(priority), |band| Reverse(band.priority)) {
                Ok(at) => bands[at].found(seq, began, oldest_insert),
                Err(at) if bands.len() < PRIORITIES => {
                    bands.insert(at, Band { priority, start: i64::MIN, since: began, seen: (began, seq) });
                }
                Err(_) => {}
            }
        }
    }

    /// Notes that at that instant every task that had come due was marked as due.
    pub(super) fn nothing_came_due(&self, at: Option<value::Instant>) {
        if let Some(at) = at {
            let mut state = self.state.lock();
            state.later = state.later.max(Some(at.0 - LATE));
        }
    }

    /// From when on tasks may have come due that are not marked as due.
    pub(super) fn later(&self) -> Option<value::Instant> {
        self.state.lock().later()
    }

    /// Notes that an insert begins.
    pub(super) fn inserting(&self) -> Inserting<'_> {
        let mut state = self.state.lock();
        let number = state.next_insert;
        state.next_insert += 1;
        state.inserts.insert(number, Instant::now());
        Inserting { starts: self, number }
    }

    /// Notes tasks that are due again: claims look up by id those that are below a start.
    pub(super) fn are_due_again(&self, tasks: Vec<DueAgain>) {
        if tasks.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        let is_below = |task: &DueAgain| state.sets.iter().any(|(_, queues)| task.is_below(queues));
        state.below.extend(tasks.into_iter().filter(is_below).map(|task| task.id));
        if state.below.len() > MOST_BELOW {
            state.forget();
        }
    }
}

impl State {
    fn later(&self) -> Option<value::Instant> {
        self.later.filter(|_| self.is_worth).map(value::Instant)
    }

    /// Forgets all starts: claims search from the beginning.
    fn forget(&mut self) {
        self.sets.clear();
        self.below.clear();
        self.looked_for = 0;
        self.later = None;
    }
}

impl Band {
    /// Notes a claim that began at `now`; the first task that it found was `first`.
    fn found(&mut self, first: i64, now: Instant, oldest_insert: Option<Instant>) {
        let (seen_at, seen) = self.seen;
        let may_have_missed = oldest_insert.is_some_and(|began| began <= seen_at);
        if may_have_missed || now.saturating_duration_since(seen_at) < MARGIN {
            return;
        }
        // Tasks that appeared between the two claims may be below `seen`, and this claim may have taken only the first
        // of them.
        let seen = seen.min(first);
        if seen > self.start {
            (self.start, self.since) = (seen, seen_at);
        }
        self.seen = (now, first);
    }
}

/// Where a look below the starts searches, and for what.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// The queues and priorities; for each, between which `seq` (`from`, `to`) to look, and for how many microseconds its
    /// start has been known (`ages`).
    pub(super) queues: Vec<String>,
    pub(super) priorities: Vec<i16>,
    pub(super) from: Vec<i64>,
    pub(super) to: Vec<i64>,
    pub(super) ages: Vec<i64>,
    /// The names that claims ask for.
    pub(super) names: Vec<Arc<str>>,
    /// From when on claims look for tasks that have come due.
    pub(super) later: Option<value::Instant>,
}

impl SearchStarts {
    /// Where to look below the starts, if it is time to.
    pub(super) fn to_look_below(&self, now: Instant) -> Option<Looks> {
        let mut state = self.state.lock();
        if state.look_at.is_some_and(|at| at > now) || !(state.is_worth || state.has_taken) {
            return None;
        }
        let mut highest: BTreeMap<(&str, i16), &Band> = BTreeMap::new();
        for (queue, bands) in state.sets.iter().flat_map(|(_, queues)| queues) {
            for band in bands.iter().filter(|band| band.start > i64::MIN) {
                let known = highest.entry((queue, band.priority)).or_insert(band);
                if band.start > known.start {
                    *known = band;
                }
            }
        }
        if highest.is_empty() && state.later.is_none() {
            return None;
        }
        let mut looks = Looks::default();
        for ((queue, priority), band) in highest {
            looks.queues.push(queue.to_owned());
            looks.priorities.push(priority);
            let (from, to) = state.parts.of(band.start);
            looks.from.push(from);
            looks.to.push(to);
            looks.ages.push(length(now.saturating_duration_since(band.since)));
        }
        let names: BTreeSet<_> = state.sets.iter().flat_map(|(names, _)| names.iter().cloned()).collect();
        looks.names = names.into_iter().collect();
        looks.later = state.later.map(value::Instant);
        state.look_at = Some(now + LOOK_EVERY);
        state.has_taken = false;
        state.looked_for = state.below.len();
        Some(looks)
    }

    /// Notes what a look has found, whether it shows that a start was wrong, and how long the server searched.
    pub(super) fn looked_below(&self, found: Vec<TaskId>, is_wrong: bool, took: Duration) {
        let mut state = self.state.lock();
        let looked_for = std::mem::take(&mut state.looked_for);
        if is_wrong {
            state.forget();
        } else if state.parts.are_one() {
            state.is_worth = took >= WORTH;
            state.below.splice(..looked_for, found);
        } else {
            // The other parts were not looked at, so the tasks noted for them stay; if there are too many, the latest
            // ones.
            let new: Vec<_> = found.into_iter().filter(|id| !state.below.contains(id)).collect();
            state.below.extend(new);
            let too_many = state.below.len().saturating_sub(MOST_BELOW);
            state.below.drain(..too_many);
        }
        state.parts.looked(took);
        state.look_at = Some(Instant::now() + LOOK_EVERY.max(took * LOOK_SHARE));
    }

    /// Notes that a look has failed after that long: the next one looks at less.
    pub(super) fn could_not_look(&self, took: Duration) {
        let mut state = self.state.lock();
        state.parts.looked(took.max(SLOW));
        state.look_at = Some(Instant::now() + LOOK_EVERY.max(took * LOOK_SHARE));
    }
}

/// The range below each start, divided into parts that are looked at in turn. There is one part, until a look takes too
/// long.
#[derive(Debug)]
struct Parts {
    count: i64,
    next: i64,
    /// The longest look since the first part.
    longest: Duration,
}

/// If a look takes this long, the next ones are divided. The server gives up a statement after 7 s.
const SLOW: Duration = Duration::from_millis(500);
/// The most parts.
const MOST_PARTS: i64 = 4_096;

impl Default for Parts {
    fn default() -> Self {
        Self { count: 1, next: 0, longest: Duration::ZERO }
    }
}

impl Parts {
    fn are_one(&self) -> bool {
        self.count == 1
    }

    /// The range of `seq` to look at this time, of all below `start`.
    fn of(&self, start: i64) -> (i64, i64) {
        let size = start / self.count;
        let from = if self.next == 0 { i64::MIN } else { size * self.next };
        (from, if self.next + 1 == self.count { start } else { size * (self.next + 1) })
    }

    /// Goes on to the next part after a look that took that long.
    fn looked(&mut self, took: Duration) {
        self.longest = took.max(self.longest);
        self.next += 1;
        if took >= SLOW {
            *self = Self { count: (self.count * 4).min(MOST_PARTS), ..Self::default() };
        } else if self.next >= self.count {
            let count = if self.longest < SLOW / 10 { self.count / 4 } else { self.count };
            *self = Self { count: count.max(1), ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests;
