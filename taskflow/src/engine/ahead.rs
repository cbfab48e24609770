//! How far ahead of its slots a process claims.
//!
//! While one round trip to the store is under way, the next tasks run: so a claim brings more than there are free slots,
//! as many as will have ended when the next claim can be answered. That is measured and not guessed. Tasks that take
//! longer than a few round trips are claimed one by one, as slots become free, and no process sits on work that another
//! could do: what waits here too long after all goes back.

use std::time::Duration;

/// How long a claimed task waits for a slot before it goes back to the queue.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// How many times what ends in one round trip is claimed: one part runs, one is on its way to the store and one on its
/// way from there, and the rest lets it grow.
const PARTS: f64 = 4.0;

/// What may be claimed beyond the slots.
#[derive(Debug)]
pub(super) struct Window {
    /// By the last round trip and by the one before: when a claim brought nothing, nothing could end.
    sizes: [usize; 2],
    most: usize,
}

impl Window {
    pub(super) fn new(most: usize) -> Self {
        Self { sizes: [0; 2], most }
    }

    pub(super) fn size(&self) -> usize {
        self.sizes[0].max(self.sizes[1])
    }

    /// A claim was answered after `round_trip`; in the time `since` the answer before it, `ended` bodies ended.
    pub(super) fn measure(&mut self, ended: usize, since: Duration, round_trip: Duration) {
        let at_once = round_trip.as_secs_f64() / since.as_secs_f64().max(1e-9);
        let size = (ended as f64 * at_once.min(1.0) * PARTS) as usize;
        self.sizes = [size.min(self.most), self.sizes[0]];
    }

    /// Something was claimed that no slot became free for.
    pub(super) fn close(&mut self) {
        self.sizes = [0; 2];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn after(ended: usize, since: Duration, round_trip: Duration) -> usize {
        let mut window = Window::new(448);
        window.measure(ended, since, round_trip);
        window.size()
    }

    #[test]
    fn it_is_some_round_trips_of_work() {
        assert_eq!(after(64, MS, MS), 256);
        assert_eq!(after(13, MS, MS), 52, "tasks of five milliseconds in 64 slots");
        assert_eq!(after(64, 10_000 * MS, MS), 0, "tasks of ten seconds that end together");
        assert_eq!(after(0, MS, MS), 0);
        assert_eq!(after(1, Duration::ZERO, MS), 4);
    }

    #[test]
    fn one_round_trip_in_which_nothing_could_end_does_not_close_it() {
        let mut window = Window::new(448);
        window.measure(64, MS, MS);
        window.measure(0, MS, MS);
        assert_eq!(window.size(), 256);
        window.measure(0, MS, MS);
        assert_eq!(window.size(), 0);
    }

    #[test]
    fn it_has_a_greatest_size_and_closes() {
        let mut window = Window::new(448);
        window.measure(400, MS, MS);
        assert_eq!(window.size(), 448);
        window.close();
        assert_eq!(window.size(), 0);
        let mut none = Window::new(0);
        none.measure(400, MS, MS);
        assert_eq!(none.size(), 0);
    }
}
