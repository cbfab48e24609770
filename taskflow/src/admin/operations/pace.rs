//! The pace of a retry that is spread over a time.

use std::time::Duration;

use crate::model::TaskId;
use crate::seam::{Instant, Seam};
use crate::store::Reopen;

/// The pace of a retry that is spread over a time. Whoever goes on with one keeps the pace: the tries that are left are
/// spread over as much time as they were to take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    since: Instant,
    /// How many tasks came before.
    first: u64,
    /// The time from one try to the next.
    each: Duration,
}

impl Pace {
    /// The pace of `of` tries in this time, from the try number `first` on, which is now.
    pub(super) fn new(spread: Duration, of: u64, first: u64, now: Instant) -> Self {
        Self { since: now, first, each: spread.div_f64(of.max(1) as f64) }
    }

    /// These tasks to be retried, each when it is its turn; the first is the try number `number`.
    pub(super) fn in_turn(&self, number: u64, ids: Vec<TaskId>, seam: &Seam) -> Vec<Reopen> {
        let passed = seam.since(self.since);
        let turn = |(number, id)| Reopen::after(id, self.offset(number).saturating_sub(passed));
        (number..).zip(ids).map(turn).collect()
    }

    /// How long after `since` that try begins.
    fn offset(&self, number: u64) -> Duration {
        let count = number.saturating_sub(self.first);
        // An operation on more tasks than that is far beyond any store.
        self.each.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
    }
}
