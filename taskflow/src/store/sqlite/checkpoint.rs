//! Keeps the write-ahead log short without making commits wait.
//!
//! A thread with a connection of its own moves written pages from the log to the file, while the writer continues. But
//! SQLite reuses the log from its start only if at some instant all of it has been moved, and under constant load this
//! never happens. So when the log has become long, the writer itself moves the few pages that were written meanwhile. A
//! log that became long because of a long read is cut when the store is idle, and when the store is closed.
//!
//! On a full disk, the log is moved and cut before anything else is written. The room that an operator makes is then
//! used by the file, and the freed space of the log is available for new log pages. For some time after that, the log is
//! kept short: moving it makes the file grow, and a long log on a disk that is full again could only be moved when the
//! operator has made room for all of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::Synchronous;
use super::connection;
use super::queue_counts::CountDeltas;
use super::statements::Statements;

/// The approximate number of pages written between two checkpoints.
const PAGES: usize = 2000;

/// When the thread has not begun a checkpoint for this many times [`PAGES`], the writer waits for it. Otherwise the log
/// would grow without limit on a disk that is slower than the writer.
const MAX_BEHIND: u32 = 3;

/// A log of this many pages is long: 4,000 pages are 16 MB.
const LONG: i64 = 4000;

/// As [`PAGES`], for [`TIGHT`] after the disk was full.
const TIGHT_PAGES: usize = 100;

/// How long the log is kept short after the disk was full.
const TIGHT: Duration = Duration::from_secs(600);

/// A log of more bytes than this is cut when nothing was written for [`IDLE`].
const CUT: u64 = 1 << 20;

/// How often to check whether the log can be cut.
const IDLE: Duration = Duration::from_secs(1);

/// How long to wait for readers before the log is cut. No process can write meanwhile.
const PATIENCE: Duration = Duration::from_millis(100);

const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Waits for readers, moves the log into the file, and cuts it.
const TRUNCATE: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// A request to the thread.
enum Wanted {
    Checkpoint,
    /// Move and cut the whole log. Answers whether there was room for that.
    Room(SyncSender<bool>),
}

/// The writer's side.
pub(super) struct Checkpoints {
    /// The estimated number of pages written since the last checkpoint.
    pages: usize,
    /// The number of checkpoints that came due while another request was still waiting.
    behind: u32,
    /// Until when the log is kept short, because the disk was full.
    tight_until: Option<Instant>,
    /// `None` only while it is being dropped.
    wanted: Option<SyncSender<Wanted>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_long: AtomicBool,
    commits: AtomicU64,
}

/// The thread's side.
pub(super) struct Checkpointer {
    connection: Connection,
    log: PathBuf,
    wanted: Receiver<Wanted>,
    shared: Arc<Shared>,
}

pub(super) fn checkpoints(
    path: &Path,
    synchronous: Synchronous,
) -> rusqlite::Result<(Checkpoints, Checkpointer)> {
    let connection = connection::open(path)?;
    connection::set_up_to_write(&connection, synchronous)?;
    connection.busy_timeout(PATIENCE)?;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let (wanted, receiver) = sync_channel(1);
    let shared = Arc::<Shared>::default();
    let checkpointer =
        Checkpointer { connection, log: PathBuf::from(log), wanted: receiver, shared: Arc::clone(&shared) };
    let checkpoints =
        Checkpoints { pages: 0, behind: 0, tight_until: None, wanted: Some(wanted), shared, thread: None };
    Ok((checkpoints, checkpointer))
}

impl Checkpoints {
    /// Sets the thread that makes the checkpoints.
    pub(super) fn by(mut self, thread: JoinHandle<()>) -> Self {
        self.thread = Some(thread);
        self
    }

    /// Call this after each commit, with the counts that it changed. Answers `false` if there is no room to move a log
    /// that must stay short.
    pub(super) fn after_commit(&mut self, sql: &Statements<'_>, counts: &CountDeltas) -> bool {
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        // A commit writes the last pages of some trees, a page for every few tasks, and overflow pages for long
        // arguments.
        self.pages += 4 + counts.moves / 4 + counts.bytes / 4096;
        if self.tight_until.is_some_and(|until| Instant::now() < until) {
            return self.pages < TIGHT_PAGES || self.make_room();
        }
        self.tight_until = None;
        if self.pages >= PAGES {
            self.pages = 0;
            self.want();
        }
        if self.shared.is_long.swap(false, Ordering::Relaxed)
            && let Ok(mut checkpoint) = sql.get(CHECKPOINT)
        {
            let _ = checkpoint.query_row([], |_| Ok(()));
        }
        true
    }

    /// Asks for a checkpoint. If a request is still waiting, that one is enough, up to [`MAX_BEHIND`] times.
    fn want(&mut self) {
        let Some(wanted) = &self.wanted else { return };
        if wanted.try_send(Wanted::Checkpoint).is_ok() {
            self.behind = 0;
        } else if self.behind < MAX_BEHIND {
            self.behind += 1;
        } else {
            // Waits until the thread takes its next request.
            let _ = wanted.send(Wanted::Checkpoint);
            self.behind = 0;
        }
    }

    /// Moves and cuts the log. Call it before writing to a disk that was full. Answers `false` if there is no room even
    /// for that.
    pub(super) fn make_room(&mut self) -> bool {
        self.pages = 0;
        self.tight_until = Some(Instant::now() + TIGHT);
        let (answer, answered) = sync_channel(1);
        let asked = self.wanted.as_ref().map(|wanted| wanted.send(Wanted::Room(answer)));
        matches!(asked, Some(Ok(()))) && answered.recv().unwrap_or(false)
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
    /// Runs until the writer has ended.
    pub(super) fn run(self) {
        let mut seen = self.shared.commits.load(Ordering::Relaxed);
        loop {
            match self.wanted.recv_timeout(IDLE) {
                // Skip: the writer moves the rest itself after its current commit. It could not while a checkpoint runs
                // here.
                Ok(Wanted::Checkpoint) if self.shared.is_long.load(Ordering::Relaxed) => {}
                Ok(Wanted::Checkpoint) => {
                    // Pages that cannot be moved now are moved next time.
                    let pages = self.connection.query_row(CHECKPOINT, [], |row| row.get(1)).unwrap_or(0_i64);
                    if pages >= LONG {
                        self.shared.is_long.store(true, Ordering::Relaxed);
                    }
                }
                Ok(Wanted::Room(answer)) => {
                    let _ = answer.send(self.cut().is_ok());
                }
                Err(RecvTimeoutError::Timeout) => {
                    let now = self.shared.commits.load(Ordering::Relaxed);
                    if now == seen && std::fs::metadata(&self.log).is_ok_and(|log| log.len() > CUT) {
                        // The log cannot be cut during a read: then it is tried again later.
                        let _ = self.cut();
                    }
                    seen = now;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    // The last process to close the file removes the log. Any other process leaves it short.
                    let _ = self.cut();
                    return;
                }
            }
        }
    }

    fn cut(&self) -> rusqlite::Result<()> {
        self.connection.query_row(TRUNCATE, [], |_| Ok(()))
    }
}
