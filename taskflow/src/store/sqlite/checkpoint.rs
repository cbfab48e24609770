//! The write-ahead log is kept short without making a commit wait.
//!
//! A thread with a connection of its own moves what was written from the log to the file, while the writer goes on. But
//! the log begins anew only when at some instant all of it has been moved, which under constant load never happens. So
//! when the log has become long, the writer itself moves the little that came meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::connection;
use super::ledger::Ledger;
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
    /// `None` only while it is being dropped.
    wanted: Option<SyncSender<()>>,
    is_long: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
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
    Ok((Checkpoints { pages: 0, wanted: Some(wanted), is_long, thread: None }, checkpointer))
}

impl Checkpoints {
    /// Made by that thread.
    pub(super) fn by(mut self, thread: JoinHandle<()>) -> Self {
        self.thread = Some(thread);
        self
    }

    /// To be called after each commit, with what it changed.
    pub(super) fn after_commit(&mut self, sql: &Statements<'_>, ledger: &Ledger) {
        // A commit writes the ends of some trees, a page for every few tasks, and what does not fit there.
        self.pages += 4 + ledger.moves / 4 + ledger.bytes / 4096;
        if self.pages >= PAGES {
            self.pages = 0;
            // If one is still wanted, that one will do.
            let _ = self.wanted.as_ref().map(|wanted| wanted.try_send(()));
        }
        if self.is_long.swap(false, Ordering::Relaxed)
            && let Ok(mut checkpoint) = sql.get(CHECKPOINT)
        {
            let _ = checkpoint.query_row([], |_| Ok(()));
        }
    }
}

impl Drop for Checkpoints {
    /// Waits for the thread to close the file.
    fn drop(&mut self) {
        self.wanted = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
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
