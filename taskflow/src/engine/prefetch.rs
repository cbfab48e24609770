//! Decides how many tasks a process prefetches, that is, claims before it has a free slot for them.
//!
//! While one round trip to the store is in flight, the next tasks should already run. So a claim brings more tasks than
//! there are free slots: as many more as are expected to end before the next claim is answered. That number is measured in
//! two ways, and the lower one counts: how many tasks have just ended, and how long they took, since many long tasks may end
//! together. While too many tasks take longer than [`SHORT`], nothing is prefetched, so that no process keeps work that
//! another process could do. A prefetched task that still waits after [`MAX_BUFFERED`] goes back to the queue.
//!
//! Only tasks that may run again after a lost run are prefetched: a claim stops at the first task that may not. Where
//! such tasks are frequent, a claim asks for few tasks beyond the slots, since the store reads every task that a claim
//! asks for.

use std::time::Duration;

/// How long a prefetched task waits for a slot before it goes back to the queue.
pub(super) const MAX_BUFFERED: Duration = Duration::from_millis(100);

/// Bodies that take longer than this are long. While more than one in eight is long, nothing is prefetched.
const SHORT: Duration = Duration::from_millis(20);

/// How many round trips of work are claimed: one part runs, one is on its way to the store, one is on its way back, and
/// one lets the window grow.
const PARTS: f64 = 4.0;

/// The number of tasks that may be claimed beyond the slots.
#[derive(Debug)]
pub(super) struct PrefetchWindow {
    slots: usize,
    most: usize,
    /// The number of tasks that one claim requests beyond the free slots, learned from the last claims.
    reach: usize,
    /// The sizes measured in the last two round trips; the larger one counts. After a claim that brought nothing, no task
    /// could end, so one measured 0 does not close the window.
    sizes: [usize; 2],
}

/// Bodies that ended between the answers of two claims.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bodies {
    count: u32,
    took: Duration,
    /// Bodies that took longer than [`SHORT`].
    long: u32,
}

impl Bodies {
    pub(super) fn add(&mut self, took: Duration) {
        self.count += 1;
        self.took += took;
        self.long += u32::from(took > SHORT);
    }
}

impl PrefetchWindow {
    pub(super) fn new(slots: usize, most: usize) -> Self {
        Self { slots, most, reach: most, sizes: [0; 2] }
    }

    pub(super) fn size(&self) -> usize {
        self.sizes[0].max(self.sizes[1])
    }

    /// Measures the window when a claim is answered after `round_trip`. `ended` are the bodies that ended in the time
    /// `since` the previous answer.
    pub(super) fn measure(&mut self, ended: Bodies, since: Duration, round_trip: Duration) {
        // A few long bodies are tolerated: the machine may have delayed them.
        if ended.long > ended.count / 8 {
            return self.close();
        }
        let part = |of: Duration| round_trip.as_secs_f64() / of.as_secs_f64().max(1e-9);
        let by_count = f64::from(ended.count) * part(since).min(1.0);
        let by_length = match ended.took.checked_div(ended.count) {
            Some(each) => self.slots as f64 * part(each),
            None => 0.0,
        };
        let size = ((by_count.min(by_length) * PARTS) as usize).min(self.most);
        // A smaller window would delay tasks for longer than it saves.
        let size = if size < self.slots / 8 { 0 } else { size };
        self.sizes = [size, self.sizes[0]];
    }

    /// How many tasks one claim may ask for beyond the free slots.
    pub(super) fn reach(&self) -> usize {
        self.reach
    }

    /// Learns from a claim that asked for tasks beyond the free slots: it brought `prefetched` of them, and stopped at a
    /// task that must not be prefetched if `needs_slot`.
    pub(super) fn learn(&mut self, prefetched: usize, needs_slot: bool) {
        let reach =
            if needs_slot { prefetched.saturating_mul(2).max(1) } else { self.reach.saturating_mul(4) };
        self.reach = reach.min(self.most);
    }

    /// Closes the window: nothing is prefetched until it is measured again.
    pub(super) fn close(&mut self) {
        self.sizes = [0; 2];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn ended(count: u32, each: Duration) -> Bodies {
        let mut ended = Bodies::default();
        (0..count).for_each(|_| ended.add(each));
        ended
    }

    fn after(ended: Bodies, since: Duration, round_trip: Duration) -> usize {
        let mut window = PrefetchWindow::new(64, 448);
        window.measure(ended, since, round_trip);
        window.size()
    }

    #[test]
    fn it_is_some_round_trips_of_work() {
        assert_eq!(after(ended(64, MS / 100), MS, MS), 256);
        assert_eq!(after(ended(13, 5 * MS), MS, MS), 51, "tasks of five milliseconds in 64 slots");
        assert_eq!(after(ended(64, 15 * MS), MS, MS), 17, "tasks of fifteen milliseconds that end together");
        assert_eq!(after(ended(64, 15 * MS), MS, MS / 10), 0, "not worth it");
        assert_eq!(after(ended(64, MS / 100), 10_000 * MS, MS), 0, "ten seconds ago");
        assert_eq!(after(ended(0, MS), MS, MS), 0);
        assert_eq!(after(ended(10, Duration::ZERO), Duration::ZERO, MS), 40);
    }

    #[test]
    fn some_that_are_not_short_close_it() {
        let mut window = PrefetchWindow::new(64, 448);
        window.measure(ended(64, MS / 100), MS, MS);
        let mut mixed = ended(71, MS / 100);
        mixed.add(21 * MS);
        window.measure(mixed, MS, MS);
        assert_ne!(window.size(), 0);
        (0..10).for_each(|_| mixed.add(21 * MS));
        window.measure(mixed, MS, MS);
        assert_eq!(window.size(), 0);
    }

    #[test]
    fn one_round_trip_in_which_nothing_could_end_does_not_close_it() {
        let mut window = PrefetchWindow::new(64, 448);
        window.measure(ended(64, MS / 100), MS, MS);
        window.measure(ended(0, MS), MS, MS);
        assert_eq!(window.size(), 256);
        window.measure(ended(0, MS), MS, MS);
        assert_eq!(window.size(), 0);
    }

    #[test]
    fn it_asks_for_few_where_tasks_that_need_a_slot_are_frequent() {
        let mut window = PrefetchWindow::new(64, 448);
        assert_eq!(window.reach(), 448);
        window.learn(0, true);
        assert_eq!(window.reach(), 1, "it asks for one, to see whether that has changed");
        window.learn(1, false);
        window.learn(4, false);
        assert_eq!(window.reach(), 16);
        window.learn(10, true);
        assert_eq!(window.reach(), 20);
        (0..9).for_each(|_| window.learn(20, false));
        assert_eq!(window.reach(), 448);
    }

    #[test]
    fn it_has_a_greatest_size_and_closes() {
        let mut window = PrefetchWindow::new(64, 448);
        window.measure(ended(400, MS / 100), MS, MS);
        assert_eq!(window.size(), 448);
        window.close();
        assert_eq!(window.size(), 0);
        let mut none = PrefetchWindow::new(64, 0);
        none.measure(ended(400, MS / 100), MS, MS);
        assert_eq!(none.size(), 0);
    }
}
