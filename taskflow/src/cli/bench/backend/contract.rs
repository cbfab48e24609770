//! The interface of a store to the bench.

use std::collections::BTreeMap;

use crate::cli::bench::failure::Result;
use crate::cli::bench::ours::Place;
use crate::cli::bench::queue::Queue;

/// Versions and durability settings of a store.
pub(in crate::cli::bench) type Facts = BTreeMap<&'static str, String>;

/// A store in which the bench creates and removes its own data.
pub(in crate::cli::bench) trait Backend: Send + Sync {
    type Floor: Queue;

    /// A new empty place for taskflow.
    fn place(&self) -> Result<Place>;

    /// A new empty floor that runs at most `slots` tasks at once.
    fn floor(&self, slots: usize) -> impl Future<Output = Result<Self::Floor>> + Send;

    fn facts(&self) -> impl Future<Output = Result<Facts>> + Send;

    /// Removes everything that the bench has created so far.
    fn remove(&self) -> impl Future<Output = Result<()>> + Send;

    /// How many finished tasks the store keeps.
    fn keeps(&self) -> u64 {
        u64::MAX
    }
}
