//! The writer: the one thread that writes.
//!
//! Jobs wait for it in a channel. It takes all waiting jobs, at most [`GROUP`], runs them in one transaction, commits,
//! and only then answers. So all waiting callers share the cost of one commit. If one job fails, all are undone and each
//! runs again alone, so that a failing job affects no other.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use super::checkpoint::Checkpoints;
use super::error::{commit_error, damage_found, full, moved, store_error};
use super::identity::FileIdentity;
use super::integrity::IntegrityChecks;
use super::lock::Locks;
use super::readable::is_unreadable;
use super::repair;
use super::statements::Statements;
use super::transaction::Transaction;
use crate::model::{StoreError, StoreErrorKind};

/// The maximum number of jobs in one transaction.
const GROUP: usize = 256;

/// How long to stay awake after a commit, because its answers often lead to new jobs. Being woken takes about as long.
const LINGER: Duration = Duration::from_micros(50);

/// How often to check whether another process wrote.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// A message to the writer.
pub(super) enum Message {
    Job(Box<dyn Job>),
    /// A listener has subscribed to hints.
    Listen,
}

/// A unit of writes, which can run again after it was undone.
pub(super) trait Job: Send {
    fn run(&mut self, tx: &mut Transaction<'_, '_>) -> rusqlite::Result<()>;

    /// Answers the caller after the job was committed or has failed.
    fn answer(self: Box<Self>, end: Result<(), StoreError>);
}

/// A job that runs a closure.
pub(super) struct Work<F, T> {
    work: F,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Work<F, T> {
    pub(super) fn new(work: F, reply: oneshot::Sender<Result<T, StoreError>>) -> Self {
        Self { work, done: None, reply }
    }
}

impl<F, T> Job for Work<F, T>
where
    F: for<'w, 'c> FnMut(&mut Transaction<'w, 'c>) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn run(&mut self, tx: &mut Transaction<'_, '_>) -> rusqlite::Result<()> {
        self.done = Some((self.work)(tx)?);
        Ok(())
    }

    fn answer(self: Box<Self>, end: Result<(), StoreError>) {
        let Self { done, reply, .. } = *self;
        let answer = end.map(|()| done.expect("a job that is committed has run"));
        // The caller may be gone; the job is done nevertheless.
        let _ = reply.send(answer);
    }
}

/// The state of the writer's thread.
pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) inbox: Receiver<Message>,
    pub(super) changes: watch::Sender<()>,
    pub(super) locks: Arc<Locks>,
    pub(super) checkpoints: Checkpoints,
    pub(super) file: FileIdentity,
    pub(super) integrity: Arc<IntegrityChecks>,
    /// Whether the disk was full at the last write.
    pub(super) is_full: Cell<bool>,
}

impl Writer {
    /// Runs until all senders of jobs are dropped.
    pub(super) fn run(mut self, connection: &Connection) {
        let sql = Statements::new(connection);
        let mut tx = Transaction::new(&sql);
        let mut seen = version(&sql);
        let mut looked_at = Instant::now();
        let mut group: Vec<Box<dyn Job>> = Vec::new();
        let mut linger = Duration::ZERO;
        let mut repairs = Repairs::default();
        let mut is_full = false;
        loop {
            let has_listeners = self.changes.receiver_count() > 0;
            let first = match self.next_soon(linger) {
                Some(message) => Ok(message),
                None if has_listeners => self.inbox.recv_timeout(LOOK_EVERY),
                None => self.inbox.recv().map_err(RecvTimeoutError::from),
            };
            linger = Duration::ZERO;
            match first {
                Ok(message) => group.extend(self.job_of(message)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while group.len() < GROUP
                && let Ok(message) = self.inbox.try_recv()
            {
                group.extend(self.job_of(message));
            }
            if !group.is_empty() {
                if is_full && !self.checkpoints.make_room() {
                    let error = full(&self.path);
                    group.drain(..).for_each(|job| job.answer(Err(error.clone())));
                } else {
                    self.is_full.set(false);
                    self.commit_all(&mut tx, &mut group, &mut repairs);
                    is_full = self.is_full.get();
                }
                is_full |= !self.checkpoints.after_commit(&sql, &tx.counts);
                linger = LINGER;
            }
            if has_listeners && looked_at.elapsed() >= LOOK_EVERY {
                looked_at = Instant::now();
                let now = version(&sql);
                if now != seen {
                    seen = now;
                    self.changes.send_replace(());
                    self.integrity.want();
                }
            }
        }
    }

    fn job_of(&self, message: Message) -> Option<Box<dyn Job>> {
        match message {
            Message::Job(job) => Some(job),
            Message::Listen => {
                // Changes that another process made after the caller subscribed may already be in `seen`: send one hint
                // to be sure.
                self.changes.send_replace(());
                None
            }
        }
    }

    /// The next message, if it arrives within `linger`. Waits awake, because being woken takes about as long.
    fn next_soon(&self, linger: Duration) -> Option<Message> {
        let since = Instant::now();
        while since.elapsed() < linger {
            if let Ok(message) = self.inbox.try_recv() {
                return Some(message);
            }
            std::thread::yield_now();
        }
        None
    }

    fn commit_all(&self, tx: &mut Transaction<'_, '_>, group: &mut Vec<Box<dyn Job>>, repairs: &mut Repairs) {
        // A job that panics affects no other job.
        let committed = catch_unwind(AssertUnwindSafe(|| self.commit(tx, group)));
        if let Ok(Err(Failed::All(error) | Failed::One { error, .. })) = &committed
            && error.kind() == StoreErrorKind::Full
        {
            self.is_full.set(true);
        }
        let (error, is_damage) = match committed {
            Ok(Ok(())) => return group.drain(..).for_each(|job| job.answer(Ok(()))),
            // There may be room for one job where there is none for all.
            Ok(Err(Failed::All(error))) if error.kind() == StoreErrorKind::Full && group.len() > 1 => {
                (error, false)
            }
            Ok(Err(Failed::All(error))) => {
                return group.drain(..).for_each(|job| job.answer(Err(error.clone())));
            }
            Ok(Err(Failed::One { error, is_damage })) => (error, is_damage),
            Err(_) => {
                tx.roll_back();
                (damage_found(&self.path), true)
            }
        };
        if group.len() > 1 {
            for job in std::mem::take(group) {
                self.commit_all(tx, &mut vec![job], repairs);
            }
        } else if is_damage && repairs.may_begin() {
            // The job may have failed because another program damaged the tables. Then it succeeds after a repair.
            let mut again = std::mem::take(group);
            let (repair, _) = oneshot::channel();
            let mut repair: Vec<Box<dyn Job>> = vec![Box::new(Work::new(repair::repair, repair))];
            let began = Instant::now();
            self.commit_all(tx, &mut repair, repairs);
            self.commit_all(tx, &mut again, repairs);
            repairs.end(began.elapsed());
        } else {
            group.drain(..).for_each(|job| job.answer(Err(error.clone())));
        }
    }

    fn commit(&self, tx: &mut Transaction<'_, '_>, group: &mut [Box<dyn Job>]) -> Result<(), Failed> {
        tx.begin().map_err(|error| Failed::All(store_error(error, &self.path)))?;
        let mut run = || {
            group.iter_mut().try_for_each(|job| job.run(tx))?;
            tx.complete()
        };
        if let Err(error) = run() {
            tx.roll_back();
            let is_damage = is_damage(&error);
            return Err(Failed::One { error: store_error(error, &self.path), is_damage });
        }
        // Writes to a file that is no longer at its path would be lost: refuse them, so that the caller tries again.
        if !self.file.is_still_at(&self.path) {
            tx.roll_back();
            return Err(Failed::All(moved(&self.path)));
        }
        if let Err(error) = tx.commit() {
            tx.roll_back();
            return Err(Failed::All(commit_error(error, &self.path)));
        }
        if tx.is_suspect {
            self.integrity.want();
        }
        // A manager knows about its own writes. Hints are needed only if several managers share this store.
        if tx.should_notify && self.locks.joined() != 1 && self.changes.receiver_count() > 0 {
            self.changes.send_replace(());
        }
        Ok(())
    }
}

/// The reason why a group was not committed.
enum Failed {
    /// The transaction could not begin or commit: the error applies to all jobs.
    All(StoreError),
    /// One of the jobs failed, perhaps because another program damaged the tables.
    One { error: StoreError, is_damage: bool },
}

/// Whether damage by another program may be the reason why a job failed: a value that it read is unreadable, or a value
/// that it wrote conflicts with the tables.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{ConstraintViolation, TypeMismatch, Unknown};
    is_unreadable(error)
        || matches!(error, rusqlite::Error::QueryReturnedNoRows)
        // `Unknown` is any error of a statement, also a sum that overflows.
        || matches!(error.sqlite_error_code(), Some(ConstraintViolation | TypeMismatch | Unknown))
}

/// When a repair may be tried again. A repair reads all rows, so it must be rare.
#[derive(Debug, Default)]
struct Repairs {
    next_at: Option<Instant>,
}

impl Repairs {
    fn may_begin(&mut self) -> bool {
        let now = Instant::now();
        let may = self.next_at.is_none_or(|at| at <= now);
        if may {
            // No other repair begins while this one runs.
            self.next_at = Some(now + Duration::from_secs(3600));
        }
        may
    }

    fn end(&mut self, took: Duration) {
        self.next_at = Some(Instant::now() + took * 20);
    }
}

/// A number that changes when another connection has written to the file.
fn version(sql: &Statements<'_>) -> Option<i64> {
    sql.get("PRAGMA data_version").ok()?.query_row([], |row| row.get(0)).ok()
}
