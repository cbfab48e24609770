//! Measures how long calls to the store take, and how often they fail.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::model::Histogram;

/// Counts the calls to the store by operation. There are only a few dozen operations, and one call usually serves many tasks, so
/// the lock costs a task almost nothing.
#[derive(Debug, Default)]
pub(crate) struct Calls(RwLock<BTreeMap<&'static str, Operation>>);

#[derive(Debug, Default)]
struct Operation {
    buckets: [AtomicU64; Histogram::BUCKETS],
    micros: AtomicU64,
    errors: AtomicU64,
}

/// The counts of one operation.
#[cfg(any(feature = "api", feature = "metrics"))]
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) took: Histogram,
    pub(crate) errors: u64,
}

impl Calls {
    /// Counts a call and how long it took.
    pub(crate) fn count(&self, operation: &'static str, took: Duration, is_error: bool) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let count = |of: &Operation| {
            of.buckets[Histogram::bucket(micros)].fetch_add(1, Ordering::Relaxed);
            of.micros.fetch_add(micros, Ordering::Relaxed);
            of.errors.fetch_add(u64::from(is_error), Ordering::Relaxed);
        };
        if let Some(of) = self.0.read().get(operation) {
            return count(of);
        }
        count(self.0.write().entry(operation).or_default());
    }

    #[cfg(any(feature = "api", feature = "metrics"))]
    /// The counts of each operation, sorted by name.
    pub(crate) fn read(&self) -> Vec<(&'static str, Counted)> {
        let counted = |(operation, of): (&&'static str, &Operation)| {
            let took = Histogram {
                buckets: std::array::from_fn(|at| of.buckets[at].load(Ordering::Relaxed)),
                sum: Duration::from_micros(of.micros.load(Ordering::Relaxed)),
            };
            (*operation, Counted { took, errors: of.errors.load(Ordering::Relaxed) })
        };
        self.0.read().iter().map(counted).collect()
    }
}
