//! The meter of a process: counters for each task name and queue.

use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::counter::Counter;
use crate::model::{FastMap, Histogram, RunCounts, RunStats, TaskId, time};
use crate::seam::Seam;

/// The most task names that a process counts separately. All further names count as `other`.
const MAX_NAMES: usize = 256;

/// The most pairs of a name and a queue. All further pairs count in the first cell: the name `other` in the queue `other`.
const MAX_CELLS: usize = 1024;

/// The name, and the queue, for everything beyond the limits.
const OTHER: &str = "other";

/// Counts what tasks do in this process. It is always on.
///
/// Each pair of a task name and a queue has a *cell* of counters. A run finds its cell once, and keeps its [`CellId`]. After that
/// it only adds to numbers in memory, without a lock.
#[derive(Debug)]
pub(crate) struct Meter {
    by_name: RwLock<ByName>,
    /// Filled in order, and never emptied.
    cells: Box<[OnceLock<Box<Cell>>]>,
    /// The cell that was found last. The next task often has the same name and queue, and then no lock is needed.
    last: AtomicU16,
    base: Instant,
    /// The wall clock at `base`, in microseconds since the epoch.
    base_micros: AtomicI64,
}

/// For each name its queues with their cells.
type ByName = FastMap<Box<str>, Vec<(Box<str>, CellId)>>;

/// The number of a cell in its meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CellId(u16);

impl CellId {
    /// The cell for everything beyond the limits.
    pub(crate) const REST: Self = Self(0);
}

/// The number of counters.
const COUNTERS: usize = Counter::Errored as usize + 1;

/// The position of each histogram in [`Values`]: its buckets, then the sum in microseconds. Runs that succeeded or snoozed have a
/// separate histogram.
const WAIT: usize = COUNTERS;
const RUN_OK: usize = WAIT + Histogram::BUCKETS + 1;
const RUN_ERROR: usize = RUN_OK + Histogram::BUCKETS + 1;
const LENGTH: usize = RUN_ERROR + Histogram::BUCKETS + 1;

#[derive(Debug)]
struct Cell {
    name: Arc<str>,
    queue: Arc<str>,
    values: [AtomicU64; LENGTH],
    #[cfg(feature = "metrics")]
    facade: super::facade::Facade,
}

/// The numbers of one cell at some instant, or the difference between two instants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Values([u64; LENGTH]);

impl Meter {
    pub(crate) fn new(seam: &Seam) -> Self {
        let meter = Self {
            by_name: RwLock::default(),
            cells: (0..MAX_CELLS).map(|_| OnceLock::new()).collect(),
            last: AtomicU16::new(CellId::REST.0),
            base: seam.instant().into_std(),
            base_micros: AtomicI64::new(0),
        };
        meter.set_clock(seam);
        meter.fill(&mut meter.by_name.write(), OTHER, OTHER);
        meter
    }

    /// Compares the clocks again. The wall clock may have been set since.
    pub(crate) fn set_clock(&self, seam: &Seam) {
        let since = time::micros(seam.instant().into_std().saturating_duration_since(self.base));
        self.base_micros.store(time::to_micros(seam.now()) - since, Ordering::Relaxed);
    }

    /// The cell of this name and queue. It is made if it does not exist and there is room. This may take a lock, so code that
    /// counts often keeps the answer.
    pub(crate) fn cell(&self, name: &str, queue: &str) -> CellId {
        let last = CellId(self.last.load(Ordering::Relaxed));
        if self.at(last).is_some_and(|cell| *cell.name == *name && *cell.queue == *queue) {
            return last;
        }
        let id = self.found(name, queue);
        self.last.store(id.0, Ordering::Relaxed);
        id
    }

    fn found(&self, name: &str, queue: &str) -> CellId {
        let find = |by_name: &ByName| {
            let is_known = by_name.contains_key(name);
            let name = if is_known || by_name.len() <= MAX_NAMES { name } else { OTHER };
            let found = by_name.get(name).and_then(|cells| cells.iter().find(|(of, _)| **of == *queue));
            found.map(|(_, id)| *id).ok_or(name)
        };
        if let Ok(id) = find(&self.by_name.read()) {
            return id;
        }
        if self.is_full() {
            return CellId::REST;
        }
        let mut by_name = self.by_name.write();
        find(&by_name).unwrap_or_else(|name| self.fill(&mut by_name, name, queue))
    }

    fn is_full(&self) -> bool {
        self.cells.last().is_none_or(|last| last.get().is_some())
    }

    /// The cell for a run with an unknown queue: in the first queue in which a task of this name was counted, else in `default`.
    pub(crate) fn cell_by_name(&self, name: &str) -> CellId {
        let known = self.by_name.read().get(name).and_then(|cells| cells.first()).map(|(_, id)| *id);
        known.unwrap_or_else(|| self.cell(name, "default"))
    }

    fn fill(&self, by_name: &mut ByName, name: &str, queue: &str) -> CellId {
        let free = self.cells.iter().zip(0..).find(|(cell, _)| cell.get().is_none());
        let Some((free, id)) = free else { return CellId::REST };
        let cell = Cell {
            name: name.into(),
            queue: queue.into(),
            values: [const { AtomicU64::new(0) }; LENGTH],
            #[cfg(feature = "metrics")]
            facade: super::facade::Facade::new(name, queue),
        };
        let _ = free.set(Box::new(cell));
        by_name.entry(name.into()).or_default().push((queue.into(), CellId(id)));
        CellId(id)
    }

    fn at(&self, id: CellId) -> Option<&Cell> {
        self.cells.get(usize::from(id.0))?.get().map(|cell| &**cell)
    }

    pub(crate) fn count(&self, id: CellId, counter: Counter) {
        if let Some(cell) = self.at(id) {
            cell.values[counter as usize].fetch_add(1, Ordering::Relaxed);
            #[cfg(feature = "metrics")]
            cell.facade.count(counter);
        }
    }

    /// Counts the end of an attempt. `cause` says why it failed, if it did.
    pub(crate) fn ended(&self, id: CellId, counter: Counter, cause: Option<Counter>) {
        if let Some(cell) = self.at(id) {
            for counter in std::iter::once(counter).chain(cause) {
                cell.values[counter as usize].fetch_add(1, Ordering::Relaxed);
            }
            #[cfg(feature = "metrics")]
            cell.facade.attempt(counter, cause);
        }
    }

    /// Counts a run that starts at `now`. A first attempt has waited since the task was made (its id has that time), or since it
    /// became due, whichever is later.
    pub(crate) fn started(&self, id: CellId, task: TaskId, due: Option<i64>, is_first: bool, now: Instant) {
        let Some(cell) = self.at(id) else { return };
        cell.values[Counter::Started as usize].fetch_add(1, Ordering::Relaxed);
        if let (true, Some(made)) = (is_first, task.made_at_millis()) {
            let since = now.saturating_duration_since(self.base);
            let now = self.base_micros.load(Ordering::Relaxed) + time::micros(since);
            let made = i64::try_from(made.saturating_mul(1000)).unwrap_or(i64::MAX);
            let waited = time::left(now, due.map_or(made, |due| due.max(made)));
            cell.record(WAIT, waited);
            #[cfg(feature = "metrics")]
            cell.facade.waited(waited);
        }
    }

    /// Counts how long a body ran; `is_ok` if the run succeeded or snoozed.
    pub(crate) fn ran(&self, id: CellId, took: Duration, is_ok: bool) {
        if let Some(cell) = self.at(id) {
            cell.record(if is_ok { RUN_OK } else { RUN_ERROR }, took);
            #[cfg(feature = "metrics")]
            cell.facade.ran(took, is_ok);
        }
    }

    /// The name, the queue and the numbers of each cell. The order never changes: new cells come last.
    pub(crate) fn read(&self) -> Vec<(Arc<str>, Arc<str>, Values)> {
        let cells = self.cells.iter().map_while(OnceLock::get);
        cells.map(|cell| (cell.name.clone(), cell.queue.clone(), cell.read())).collect()
    }
}

/// Counts many tasks with few names: for consecutive tasks with the same name and queue it looks up the cell only once.
#[derive(Debug)]
pub(crate) struct InRow<'a> {
    meter: &'a Meter,
    last: Option<(&'a str, &'a str, CellId)>,
}

impl<'a> InRow<'a> {
    pub(crate) fn new(meter: &'a Meter) -> Self {
        Self { meter, last: None }
    }

    pub(crate) fn count(&mut self, name: &'a str, queue: &'a str, counter: Counter) {
        let cell = match self.last {
            Some((last, of, cell)) if last == name && of == queue => cell,
            _ => self.meter.cell(name, queue),
        };
        self.last = Some((name, queue, cell));
        self.meter.count(cell, counter);
    }
}

impl Cell {
    fn record(&self, histogram: usize, length: Duration) {
        let micros = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        self.values[histogram + Histogram::bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.values[histogram + Histogram::BUCKETS].fetch_add(micros, Ordering::Relaxed);
    }

    fn read(&self) -> Values {
        Values(std::array::from_fn(|at| self.values[at].load(Ordering::Relaxed)))
    }
}

impl Values {
    pub(crate) const ZERO: Self = Self([0; LENGTH]);

    /// What has been counted since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].wrapping_sub(before.0[at])))
    }

    #[cfg(any(feature = "api", feature = "metrics"))]
    pub(crate) fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    pub(crate) fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    pub(crate) fn stats(&self) -> RunStats {
        let value = |counter: Counter| self.0[counter as usize];
        let added = [Counter::Added, Counter::Requested, Counter::Ticked];
        let mut run = self.histogram(RUN_OK);
        run += &self.histogram(RUN_ERROR);
        RunStats {
            counts: RunCounts {
                added: added.into_iter().map(value).sum(),
                started: value(Counter::Started),
                succeeded: value(Counter::Succeeded),
                failed: value(Counter::Failed),
                retried: value(Counter::Retried),
                snoozed: value(Counter::Snoozed),
                cancelled: value(Counter::Cancelled),
                handed_back: value(Counter::HandedBack),
                interrupted: value(Counter::Interrupted),
                lost: value(Counter::Lost),
                panicked: value(Counter::Panicked),
                timed_out: value(Counter::TimedOut),
                rejected: value(Counter::Rejected),
            },
            wait: self.histogram(WAIT),
            run,
        }
    }

    /// How long tasks waited for their first attempt.
    #[cfg(any(feature = "api", feature = "metrics"))]
    pub(crate) fn waits(&self) -> Histogram {
        self.histogram(WAIT)
    }

    /// How long the runs took that succeeded or snoozed (`is_ok`), or all others.
    #[cfg(any(feature = "api", feature = "metrics"))]
    pub(crate) fn runs(&self, is_ok: bool) -> Histogram {
        self.histogram(if is_ok { RUN_OK } else { RUN_ERROR })
    }

    fn histogram(&self, at: usize) -> Histogram {
        Histogram {
            buckets: std::array::from_fn(|bucket| self.0[at + bucket]),
            sum: Duration::from_micros(self.0[at + Histogram::BUCKETS]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::io::Write;

    use super::*;

    #[test]
    fn memory_stays_bounded_however_many_names_and_queues_there_are() {
        let meter = Meter::new(&Seam::default());
        let cells: Vec<CellId> =
            (0..1000).map(|name| meter.cell(&format!("task {name}"), "default")).collect();
        for id in &cells {
            meter.count(*id, Counter::Added);
        }
        let names = meter.read();
        assert_eq!(names.len(), MAX_NAMES + 2, "256 names, and `other` in two queues");
        let added = |name: &str| {
            let of_name = names.iter().filter(|(it, ..)| **it == *name);
            of_name.map(|(_, _, values)| values.stats().counts.added).sum::<u64>()
        };
        assert_eq!((added("task 0"), added("task 255"), added(OTHER)), (1, 1, 1000 - MAX_NAMES as u64));
        assert_eq!(meter.cell("task 0", "default"), cells[0]);
        for queue in 0..3000 {
            meter.count(meter.cell("task 0", &format!("queue {queue}")), Counter::Added);
        }
        let all = meter.read();
        assert_eq!(all.len(), MAX_CELLS);
        assert_eq!(all.iter().map(|(_, _, values)| values.stats().counts.added).sum::<u64>(), 4000);
    }

    #[test]
    fn a_first_attempt_has_waited_since_it_was_made_or_became_due() {
        let meter = Meter::new(&Seam::default());
        let cell = meter.cell("task", "default");
        let (task, now) = (TaskId::new(), Instant::now());
        meter.started(cell, task, None, true, now + Duration::from_secs(10));
        meter.started(
            cell,
            task,
            Some(time::to_micros(Seam::default().now()) + 4_000_000),
            true,
            now + Duration::from_secs(5),
        );
        meter.started(cell, task, None, true, now.checked_sub(Duration::from_secs(5)).unwrap_or(now));
        meter.started(cell, task, None, false, now + Duration::from_secs(99));
        let strange = TaskId::from_bytes([0; 16]);
        meter.started(cell, strange, None, true, now);
        let stats = meter.read()[1].2.stats();
        assert_eq!((stats.counts.started, stats.wait.count()), (5, 3));
        let sum = stats.wait.sum.as_secs_f64();
        assert!((10.9..11.2).contains(&sum), "{sum}");
        let expected = [Histogram::bucket(10_000_000), Histogram::bucket(1_000_000), 0];
        for bucket in expected {
            assert_eq!(stats.wait.buckets[bucket], 1, "{:?}", stats.wait);
        }
    }

    /// Everything that the meter does for one task: its add, its start, its length and its end. The result is in
    /// `docs/performance.md`.
    #[test]
    #[ignore = "it measures: run it alone in a release build, with --no-capture"]
    fn a_task_costs_the_meter_at_most_50_ns() {
        const TASKS: u32 = 200_000;
        let meter = Meter::new(&Seam::default());
        let cell = meter.cell("task", "default");
        let (task, now) = (TaskId::new(), Instant::now());
        let count = |took| {
            InRow::new(&meter).count(black_box("task"), black_box("default"), Counter::Added);
            meter.started(black_box(cell), black_box(task), None, true, black_box(now));
            meter.ran(black_box(cell), black_box(took), true);
            meter.ended(black_box(cell), Counter::Succeeded, None);
        };
        let mut nanos: Vec<f64> = (0..21)
            .map(|_| {
                let began = Instant::now();
                (0..TASKS).for_each(|n| count(Duration::from_micros(u64::from(n))));
                began.elapsed().as_nanos() as f64 / f64::from(TASKS)
            })
            .collect();
        nanos.sort_by(f64::total_cmp);
        let [least, median, greatest] = [0, 10, 20].map(|at| nanos[at]);
        let figure = format!("{median:.1} ns a task, {least:.1} to {greatest:.1} in 21 rounds\n");
        std::io::stderr().write_all(figure.as_bytes()).expect("the figure is written");
        assert!(median <= 50.0, "{figure}");
    }
}
