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
    type Reader: OldReader;

    /// Whether a reader can keep an old snapshot, which stops the server from cleaning up what was removed since.
    const HAS_SNAPSHOTS: bool = false;

    /// A new empty place for taskflow.
    fn place(&self) -> Result<Place>;

    /// A new empty floor that runs at most `slots` tasks at once.
    fn floor(&self, slots: usize) -> impl Future<Output = Result<Self::Floor>> + Send;

    /// Several instances of one floor, each with connections of its own; `None` if its store is not for many processes.
    fn floors(
        &self,
        _slots: usize,
        _instances: u64,
    ) -> impl Future<Output = Result<Option<Vec<Self::Floor>>>> + Send {
        async { Ok(None) }
    }

    fn facts(&self) -> impl Future<Output = Result<Facts>> + Send;

    /// Removes everything that the bench has created so far.
    fn remove(&self) -> impl Future<Output = Result<()>> + Send;

    /// Begins to read, and keeps the snapshot until the reader is closed.
    fn read(&self) -> impl Future<Output = Result<Self::Reader>> + Send;

    /// The most finished tasks that the store keeps.
    fn keeps(&self) -> u64 {
        u64::MAX
    }
}

/// A reader that keeps an old snapshot.
pub(in crate::cli::bench) trait OldReader: Send {
    /// What the server has written in all, and the dead rows that it has now.
    fn wear(&mut self) -> impl Future<Output = Result<Wear>> + Send;

    fn close(self) -> impl Future<Output = Result<()>> + Send;
}

/// What a server has written and left over.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cli::bench) struct Wear {
    /// Bytes of its write-ahead log.
    pub(in crate::cli::bench) log: u64,
    /// Rows that have been removed but not cleaned up.
    pub(in crate::cli::bench) dead_rows: u64,
}

/// The reader of a store that has no snapshots. It cannot be opened.
#[derive(Debug)]
pub(in crate::cli::bench) enum NoReader {}

impl NoReader {
    pub(in crate::cli::bench) fn open() -> Result<Self> {
        Err("no reader of this store holds up its cleaning".into())
    }
}

impl OldReader for NoReader {
    async fn wear(&mut self) -> Result<Wear> {
        match *self {}
    }

    async fn close(self) -> Result<()> {
        match self {}
    }
}
