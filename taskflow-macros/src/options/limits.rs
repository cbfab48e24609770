//! The limits that the attributes check, copied from `taskflow/src/model/limits.rs`. `tests/limits.rs` compares the two files.

use std::ops::RangeInclusive;
use std::time::Duration;

pub(super) const WORD: usize = 1024;
pub(super) const LENGTH: Duration = Duration::from_secs(36_525 * 86_400);
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(1);
pub(super) const INTERVAL_MIN: Duration = Duration::from_millis(100);
pub(super) const BACKOFF: RangeInclusive<f64> = 1.0..=1000.0;
pub(super) const JITTER: RangeInclusive<f64> = 0.0..=1.0;
pub(super) const LOST_RUNS_MIN: u32 = 1;
