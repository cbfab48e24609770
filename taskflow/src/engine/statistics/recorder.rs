//! Splits what the meter counts into minutes and hours.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Mutex;

use super::document::{HOUR, MINUTE, Period, Row, key, pack};
use crate::model::{InstanceId, time};
use crate::observe::{Meter, Values};
use crate::store::DocumentWrite;

/// The most documents that wait while the store accepts none. With one document for each minute and hour they cover eight
/// hours; a process with many tasks makes several for each.
const MAX_WAITING: usize = 512;

/// What this process has counted and not stored yet.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(super) state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    periods: [Current; 2],
    /// The documents to write, by kind and key.
    pub(super) waiting: BTreeMap<(&'static str, String), DocumentWrite>,
    has_warned: bool,
}

/// The period that is being counted.
#[derive(Debug)]
struct Current {
    period: Period,
    number: u64,
    generation: u32,
    /// The meter at the start of the period.
    base: Vec<Values>,
    /// The meter when the last document was made.
    last: Vec<Values>,
}

/// What the meter counts: the name, the queue and the numbers of each cell.
type Cells = [(Arc<str>, Arc<str>, Values)];

impl Recorder {
    /// Starts with everything that the meter has counted so far.
    pub(crate) fn new(now: SystemTime) -> Self {
        let now = seconds(now);
        let current = |period: Period| Current {
            period,
            number: now / period.seconds,
            generation: 0,
            base: Vec::new(),
            last: Vec::new(),
        };
        let state =
            State { periods: [current(MINUTE), current(HOUR)], waiting: BTreeMap::new(), has_warned: false };
        Self { state: Mutex::new(state) }
    }
}

/// The instant in seconds since the epoch.
pub(super) fn seconds(at: SystemTime) -> u64 {
    u64::try_from(time::to_micros(at)).unwrap_or(0) / 1_000_000
}

impl State {
    /// Makes documents of the counts since the last call. They all belong to the period of that call, even if a new period
    /// has begun meanwhile.
    pub(super) fn take(&mut self, meter: &Meter, instance: InstanceId, now: u64) {
        let cells = meter.read();
        for current in &mut self.periods {
            for write in current.take(&cells, instance, now) {
                self.waiting.insert((write.kind, write.key.clone()), write);
            }
        }
        while self.waiting.len() > MAX_WAITING {
            self.waiting.pop_first();
            if !std::mem::replace(&mut self.has_warned, true) {
                tracing::warn!("the store takes no statistics, and too many wait; some are dropped");
            }
        }
    }
}

impl Current {
    fn take(&mut self, cells: &Cells, instance: InstanceId, now: u64) -> Vec<DocumentWrite> {
        let values = || cells.iter().map(|(_, _, values)| values.clone()).collect();
        let last = |at| self.last.get(at).unwrap_or(&Values::ZERO);
        let has_changed = cells.iter().enumerate().any(|(at, (_, _, values))| values != last(at));
        let mut writes = Vec::new();
        if has_changed {
            writes = self.documents(cells, instance);
            self.last = values();
        }
        let number = now / self.period.seconds;
        if number != self.number {
            if number < self.number {
                // The clock was set back: documents of this process may be there already.
                self.generation += 1;
            }
            (self.number, self.base) = (number, values());
        }
        writes
    }

    fn documents(&self, cells: &Cells, instance: InstanceId) -> Vec<DocumentWrite> {
        let rows = cells.iter().enumerate().filter_map(|(at, (name, queue, values))| {
            let counted = values.since(self.base.get(at).unwrap_or(&Values::ZERO));
            (!counted.is_zero()).then(|| Row::new(name, queue, &counted.stats()))
        });
        let parts = pack(&rows.collect::<Vec<_>>());
        let document = |(part, value): (usize, Vec<u8>)| {
            let key = key(self.number, instance, self.generation, part);
            DocumentWrite::put(self.period.kind, key, value).expires_in(self.period.kept)
        };
        parts.into_iter().enumerate().map(document).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunStats;
    use crate::observe::Counter;
    use crate::seam::Seam;

    /// A process under a clock that the test sets.
    struct Process {
        meter: Meter,
        state: State,
        instance: InstanceId,
        /// What the store has, by kind and key.
        store: BTreeMap<(&'static str, String), Vec<u8>>,
    }

    impl Process {
        fn new(now: u64) -> Self {
            let mut state = Recorder::new(Seam::default().now()).state.into_inner();
            state.periods.iter_mut().for_each(|current| current.number = now / current.period.seconds);
            Self {
                meter: Meter::new(&Seam::default()),
                state,
                instance: InstanceId::new(),
                store: BTreeMap::new(),
            }
        }

        fn add(&self, name: &str, times: u64) {
            (0..times).for_each(|_| self.meter.count(self.meter.cell(name, "default"), Counter::Added));
        }

        /// Writes what is due. Returns the number of documents.
        fn write(&mut self, now: u64) -> usize {
            self.state.take(&self.meter, self.instance, now);
            let waiting = std::mem::take(&mut self.state.waiting);
            let count = waiting.len();
            self.store.extend(waiting.into_iter().map(|(key, write)| (key, write.value.unwrap())));
            count
        }

        /// The added tasks by the start of their period.
        fn added(&self, period: Period) -> Vec<(u64, u64)> {
            let of_kind = self.store.iter().filter(|((kind, _), _)| *kind == period.kind);
            let mut sums: BTreeMap<u64, RunStats> = BTreeMap::new();
            for ((_, key), value) in of_kind {
                let number = super::super::document::number(key).unwrap();
                for row in Row::read(value).unwrap() {
                    *sums.entry(number * period.seconds).or_default() += &row.stats();
                }
            }
            sums.into_iter().map(|(at, stats)| (at, stats.counts.added)).collect()
        }
    }

    const START: u64 = 36_000;

    #[test]
    fn each_minute_has_what_was_counted_in_it_and_an_hour_has_all_its_minutes() {
        let mut process = Process::new(START);
        process.add("a", 1);
        assert_eq!(process.write(START + 10), 2);
        process.add("b", 2);
        assert_eq!(process.write(START + 20), 2);
        assert_eq!(process.write(START + 30), 0, "nothing changed");
        process.add("a", 4);
        process.write(START + 60);
        process.add("a", 8);
        process.write(START + 119);
        assert_eq!(process.write(START + 125), 0);
        process.add("b", 16);
        process.write(START + 3600);
        process.add("b", 32);
        process.write(START + 3601);
        assert_eq!(
            process.added(MINUTE),
            [(START, 7), (START + 60, 8), (START + 120, 16), (START + 3600, 32)]
        );
        assert_eq!(process.added(HOUR), [(START, 31), (START + 3600, 32)]);
    }

    #[test]
    fn a_clock_that_is_set_back_overwrites_nothing() {
        let mut process = Process::new(START);
        process.add("a", 1);
        process.write(START + 59);
        process.write(START + 61);
        process.add("a", 2);
        process.write(START + 70);
        // The clock is set back by a minute.
        process.write(START + 10);
        process.add("a", 4);
        process.write(START + 20);
        assert_eq!(process.added(MINUTE), [(START, 5), (START + 60, 2)]);
        assert_eq!(process.added(HOUR), [(START, 7)]);
    }

    #[test]
    fn what_waits_for_a_store_that_is_away_is_bounded_and_the_newest_stay() {
        let mut process = Process::new(START);
        for minute in 0..2000 {
            process.add("a", 1);
            process.state.take(&process.meter, process.instance, START + minute * 60);
        }
        assert_eq!(process.state.waiting.len(), MAX_WAITING);
        process.write(START + 2000 * 60);
        let kept = process.added(MINUTE);
        assert_eq!(kept.last(), Some(&(START + 1998 * 60, 1)), "{:?}", kept.last());
        assert!(kept.len() > MAX_WAITING / 2);
    }
}
