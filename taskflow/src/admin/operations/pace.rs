//! The pace of a retry that is spread over a time.

use std::time::Duration;

use crate::model::TaskId;
use crate::seam::{Instant, Seam};
use crate::store::Reopen;

/// The pace of a retry that is spread over a time. A resumed retry keeps the pace: the new runs that are left take as long as
/// they would have taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    since: Instant,
    /// How many tasks came before.
    first: u64,
    /// The time from one new run to the next.
    each: Duration,
}

impl Pace {
    /// The pace of `of` new runs over the time `spread`. The run number `first` is due now.
    pub(super) fn new(spread: Duration, of: u64, first: u64, now: Instant) -> Self {
        Self { since: now, first, each: spread.div_f64(of.max(1) as f64) }
    }

    /// Retries of these tasks, each due at the time that the pace gives it. The first of them is the run number `number`.
    pub(super) fn in_turn(&self, number: u64, ids: Vec<TaskId>, seam: &Seam) -> Vec<Reopen> {
        let passed = seam.since(self.since);
        let turn = |(number, id)| Reopen::after(id, self.offset(number).saturating_sub(passed));
        (number..).zip(ids).map(turn).collect()
    }

    /// How long after `since` the run of this number is due.
    fn offset(&self, number: u64) -> Duration {
        let count = number.saturating_sub(self.first);
        // An operation on more tasks than that is far beyond any store.
        self.each.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
    }
}
