//! The write-ahead log is kept short without making a commit wait.
//!
//! A thread with a connection of its own moves what was written from the log to the file, while the writer goes on. But
//! the log begins anew only when at some instant all of it has been moved, which under constant load never happens. So
//! when the log has become long, the writer itself moves the little that came meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rusqlite::Connection;

use super::connection;
use super::open::Synchronous;
use super::statements::Statements;

/// About so many pages are written between two checkpoints.
const PAGES: usize = 2000;

/// A log of so many pages is long: 4,000 are 16 MB.
const LONG: i64 = 4000;

const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// The writer's side.
pub(super) struct Checkpoints {
    /// Pages written since the last checkpoint, estimated.
    pages: usize,
    wanted: SyncSender<()>,
    is_long: Arc<AtomicBool>,
}

/// The thread's side.
pub(super) struct Checkpointer {
    connection: Connection,
    wanted: Receiver<()>,
    is_long: Arc<AtomicBool>,
}

pub(super) fn checkpoints(
    path: &Path,
    synchronous: Synchronous,
) -> rusqlite::Result<(Checkpoints, Checkpointer)> {
    let connection = connection::open(path)?;
    connection::set_up_to_write(&connection, synchronous)?;
    let (wanted, receiver) = sync_channel(1);
    let is_long = Arc::new(AtomicBool::new(false));
    let checkpointer = Checkpointer { connection, wanted: receiver, is_long: Arc::clone(&is_long) };
    Ok((Checkpoints { pages: 0, wanted, is_long }, checkpointer))
}

impl Checkpoints {
    /// To be called after each commit, with how many tasks it moved.
    pub(super) fn after_commit(&mut self, sql: &Statements<'_>, moves: usize) {
        // A commit writes the ends of some trees, and a page for every few tasks.
        self.pages += 4 + moves / 4;
        if self.pages >= PAGES {
            self.pages = 0;
            // If one is still wanted, that one will do.
            let _ = self.wanted.try_send(());
        }
        if self.is_long.swap(false, Ordering::Relaxed)
            && let Ok(mut checkpoint) = sql.get(CHECKPOINT)
        {
            let _ = checkpoint.query_row([], |_| Ok(()));
        }
    }
}

impl Checkpointer {
    /// Runs until the writer is gone.
    pub(super) fn run(self) {
        while self.wanted.recv().is_ok() {
            // What cannot be moved now is moved next time.
            let pages = self.connection.query_row(CHECKPOINT, [], |row| row.get(1)).unwrap_or(0_i64);
            if pages >= LONG {
                self.is_long.store(true, Ordering::Relaxed);
            }
        }
    }
}
