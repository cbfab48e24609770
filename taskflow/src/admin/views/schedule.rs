use std::time::SystemTime;

use serde::Serialize;

use crate::admin::next_ticks;
use crate::model::{ScheduleInfo, time};

/// A schedule, and its next ticks.
#[derive(Debug, Serialize)]
pub struct ScheduleView {
    #[serde(flatten)]
    info: ScheduleInfo,
    /// The next ticks; none while it is paused, or if no running program runs it.
    next: Vec<String>,
    #[serde(skip)]
    ticks: Vec<SystemTime>,
}

impl ScheduleView {
    /// The view of this schedule, with at most `number` next ticks.
    #[must_use]
    pub fn of(info: ScheduleInfo, number: usize) -> Self {
        let ticks = next_ticks(&info, number);
        Self { next: ticks.iter().copied().map(time::rfc3339).collect(), ticks, info }
    }

    /// The schedule itself.
    #[must_use]
    pub fn info(&self) -> &ScheduleInfo {
        &self.info
    }

    /// The next ticks; none while it is paused, or if no running program runs it.
    #[must_use]
    pub fn ticks(&self) -> &[SystemTime] {
        &self.ticks
    }
}
