use serde::{Deserialize, Serialize};

/// How many tasks match a filter: the answer of [`TaskManager::count`](crate::TaskManager::count).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Count {
    /// The number of tasks; a lower bound if it is not exact.
    pub n: u64,
    /// Whether exactly `n` tasks match. If not, the count has stopped at its limit: show "10,000+".
    pub exact: bool,
}

impl Count {
    /// The usual limit of a count: 10,000 tasks.
    pub const UP_TO: usize = 10_000;

    /// An exact count.
    #[must_use]
    pub fn exactly(n: u64) -> Self {
        Self { n, exact: true }
    }

    /// A count that stopped at its limit: `n` tasks match, or more.
    #[must_use]
    pub fn at_least(n: u64) -> Self {
        Self { n, exact: false }
    }
}
