//! The durability of a SQLite store.

/// What an accepted task survives, for [`SqliteStore::open_with`](super::SqliteStore::open_with).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Synchronous {
    /// A power loss: each commit waits for the disk. Callers that wait at the same time share a commit, so only a
    /// single caller notices the cost. The default.
    #[default]
    Full,
    /// A crash of the process, `kill -9` included, but not a crash of the machine: a power loss may undo the last
    /// commits (the file stays intact). Several times faster for a single caller.
    Normal,
}
