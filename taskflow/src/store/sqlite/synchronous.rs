//! What an accepted task survives.

/// What an accepted task survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Synchronous {
    /// A power loss: each commit waits for the disk. Those who wait share commits, so it is the single caller who pays
    /// for it. The default.
    #[default]
    Full,
    /// A crash of the process, `kill -9` included, but not of the machine: the last commits before a power loss may be
    /// undone (the file stays whole). Several times faster for a single caller.
    Normal,
}
