//! The store: it turns calls of the contract into jobs for the writer and questions for the readers.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::error::{stopped, store_error};
use super::integrity::{self, IntegrityChecks};
use super::lock::Locks;
use super::reader::Question;
use super::transaction::Transaction;
use super::writer::{Message, Work};
use super::{Synchronous, claim, control, documents, finish, insert, instance, lease, list};
use super::{prune, queues, read, recover, repair, schedule, statements::Statements};
use crate::model::{
    CancelOutcome, Counts, Error, InstanceId, InstanceInfo, LogLine, Page, QueueConfig, QueueInfo,
    StoreError, StoreErrorKind, TaskFilter, TaskId, TaskRecord,
};
use crate::store::{
    Capabilities, Claim, Claims, Document, DocumentQuery, DocumentWrite, Finish, Finished, Fire, Fired, Hint,
    HintStream, InsertBatch, Inserted, QueueState, Recovered, Refusal, Release, ReleasedTurn, Renewal,
    Renewed, Reopen, ReplaceArgs, Report, Retention, RunRef, ScheduleChange, ScheduleChanges, ScheduleState,
    Store, StoreFuture, TaskEnd, document,
};

/// A store in one SQLite file.
///
/// This is a cheap handle: clones share the file's connections, which close when the last clone is dropped. The file
/// may be one that the application uses itself: the names of all tables begin with `taskflow_`, and the store does not
/// touch `user_version`. The store puts the file into write-ahead-log mode. Any number of processes on one machine may
/// use the file at once. A network file system does not work.
///
/// Beside `tasks.db` are SQLite's own files `tasks.db-wal` and `tasks.db-shm`, and a directory `tasks.db-taskflow` of
/// lock files, by which other processes notice at once that a process died. To move or back up a store, stop its
/// processes first or use SQLite's own `VACUUM INTO`.
///
/// Only one process writes at a time, so limits that hold for all processes (`global_concurrency`, `key_concurrency`,
/// `rate_limit`, `max_size`) need no locks of their own. The counts of a queue are updated as its tasks change state,
/// except for three bounded lookups:
///
/// - Tasks that came due while no process ran their queue: at most 100,000 of them are counted as due.
/// - The longest wait: it looks at the first 500 candidates (one for each name and priority, and one for each busy
///   concurrency key and name).
/// - The number of tasks that ended in the last minute: it is exact to the second, and at most
///   [`QueueInfo::MAX_COUNTED`](crate::QueueInfo::MAX_COUNTED).
///
/// ```
/// use taskflow::store::{SqliteStore, Store};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let directory = std::env::temp_dir().join(format!("taskflow-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// let store = SqliteStore::open(directory.join("tasks.db"))?;
/// assert_eq!(store.counts().await?.total(), 0);
/// # drop(store);
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    pub(super) shared: Arc<Shared>,
}

/// The state that all handles share.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) synchronous: Synchronous,
    pub(super) locks: Arc<Locks>,
    pub(super) integrity: Arc<IntegrityChecks>,
    /// Wakes the hint streams.
    pub(super) changes: watch::Sender<()>,
    /// In a read-only store: the error for every write.
    pub(super) refused: Option<StoreError>,
    /// `None` while it is being dropped, and in a read-only store.
    pub(super) writer: Option<Sender<Message>>,
    /// `None` only while it is being dropped.
    pub(super) readers: Option<Sender<Question>>,
    pub(super) write_thread: Option<JoinHandle<()>>,
    pub(super) read_threads: Vec<JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens the file with [`Synchronous::Full`], or creates it. This blocks for a few milliseconds, or longer while
    /// another process has the file locked. If the file cannot be opened for writing, for example because it or its
    /// directory is read-only or its disk is full, the store is read-only: it answers reads and refuses every write.
    ///
    /// # Errors
    /// [`Error::Store`] if the file can be neither written nor read; if it is itself a mount point (other containers
    /// that mount it do not see its write-ahead log: mount its directory instead); if it is not a SQLite database, or has
    /// a table `taskflow_tasks` that taskflow did not create (then it is not changed); or if it was written by a newer
    /// version of this crate, or by another development version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, Synchronous::default())
    }

    /// Opens the file, or creates it. `synchronous` sets what an accepted task survives: a power loss, or only a crash
    /// of the process.
    ///
    /// ```
    /// use taskflow::store::{SqliteStore, Synchronous};
    ///
    /// # let directory = std::env::temp_dir().join(format!("taskflow-doc-with-{}", std::process::id()));
    /// # std::fs::create_dir_all(&directory)?;
    /// let store = SqliteStore::open_with(directory.join("tasks.db"), Synchronous::Normal)?;
    /// # drop(store);
    /// # std::fs::remove_dir_all(&directory)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, synchronous: Synchronous) -> Result<Self, Error> {
        Self::open_or_make(path.as_ref(), synchronous, true)
    }

    pub(super) fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Gives the writer a job. The writer runs it in one transaction with the other jobs that wait. Once sent, the job
    /// is done even if its future is dropped.
    pub(super) fn write<T, F>(&self, work: F) -> StoreFuture<'_, T>
    where
        F: for<'w, 'c> FnMut(&mut Transaction<'w, 'c>) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        Box::pin(async move {
            if let Some(refused) = &self.shared.refused {
                return Err(refused.clone());
            }
            let (reply, answer) = oneshot::channel();
            self.shared.send(Message::Job(Box::new(Work::new(work, reply))));
            answer.await.unwrap_or_else(|_| Err(stopped(&self.shared.path)))
        })
    }

    /// If a check is due, checks whether another program has damaged the tables, and repairs the damage.
    async fn audit(&self) {
        let integrity = &self.shared.integrity;
        let Some(look) = integrity.begin() else { return };
        let from = look.from;
        // The error also affects other calls, which report it. The check is repeated later.
        let Ok(found) = self.read(move |sql| integrity::check(sql, from)).await else { return };
        if found.is_anything() {
            let seen = found.clone();
            let _ = self.write(move |tx| repair::repair_found(tx, &seen)).await;
            integrity.want();
        }
        look.end(found);
    }

    /// Gives a reader a question.
    fn read<T, F>(&self, question: F) -> StoreFuture<'_, T>
    where
        F: for<'s, 'c> FnOnce(&'s Statements<'c>) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let question: Question = Box::new(move |sql| drop(reply.send(question(sql))));
            if let Some(readers) = &self.shared.readers {
                let _ = readers.send(question);
            }
            match answer.await {
                Ok(answer) => answer.map_err(|error| store_error(error, &self.shared.path)),
                Err(_) => Err(stopped(&self.shared.path)),
            }
        })
    }
}

impl Shared {
    fn send(&self, message: Message) {
        if let Some(writer) = &self.writer {
            // The writer outlives this handle. If it has panicked, the caller's answer channel closes.
            let _ = writer.send(message);
        }
    }
}

impl Drop for Shared {
    /// Waits until all jobs are written and the file is closed. The writer closes it last: the last connection to close
    /// the file moves the log into it, if no other process has it open.
    fn drop(&mut self) {
        self.readers = None;
        for thread in self.read_threads.drain(..) {
            let _ = thread.join();
        }
        self.writer = None;
        if let Some(thread) = self.write_thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl Store for SqliteStore {
    fn location(&self) -> String {
        format!("sqlite://{}", self.shared.path.display())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            recover_every: Duration::from_millis(250),
            inserts_at_once: match self.shared.synchronous {
                // While one insert is being committed, the callers that the other insert has answered add again.
                Synchronous::Normal => 2,
                // As many adds as possible share the wait for the disk.
                Synchronous::Full => 1,
            },
            // All writers need the one lock, and so does a process that would take a lease.
            waits_together: true,
            releases_in_turns: true,
            ..Capabilities::default()
        }
    }

    fn join<'a>(&'a self, info: &'a InstanceInfo) -> StoreFuture<'a, ()> {
        let of_job = info.clone();
        Box::pin(async move {
            if let Some(refused) = &self.shared.refused {
                return Err(refused.clone());
            }
            self.shared.locks.take(info.id)?;
            self.write(move |tx| instance::join(tx, &of_job)).await
        })
    }

    fn leave(&self, instance: InstanceId) -> StoreFuture<'_, ()> {
        if self.shared.refused.is_some() {
            // A read-only store never joined.
            return Box::pin(async { Ok(()) });
        }
        let locks = Arc::clone(&self.shared.locks);
        self.write(move |tx| {
            instance::leave(tx, instance)?;
            // Before the commit, so that it happens even if nobody waits for the answer. An instance without a lock file
            // is not considered dead at once, so a failed commit does no harm.
            locks.unlock(instance);
            Ok(())
        })
    }

    fn insert(&self, batch: Arc<InsertBatch>) -> StoreFuture<'_, Vec<Result<Vec<Inserted>, Refusal>>> {
        self.write(move |tx| insert::insert(tx, &batch))
    }

    fn claim(&self, claim: Claim) -> StoreFuture<'_, Claims> {
        self.write(move |tx| claim::claim(tx, &claim))
    }

    fn finish(&self, finishes: Arc<Vec<Finish>>) -> StoreFuture<'_, Vec<Finished>> {
        self.write(move |tx| finish::finish(tx, &finishes))
    }

    fn turn(&self, finishes: Arc<Vec<Finish>>, claim: Claim) -> StoreFuture<'_, (Vec<Finished>, Claims)> {
        self.write(move |tx| Ok((finish::finish(tx, &finishes)?, claim::claim(tx, &claim)?)))
    }

    fn release_and_turn(
        &self,
        releases: Arc<Vec<Release>>,
        finishes: Arc<Vec<Finish>>,
        claim: Claim,
    ) -> StoreFuture<'_, ReleasedTurn> {
        self.write(move |tx| {
            let released = finish::release(tx, &releases)?;
            Ok((released, finish::finish(tx, &finishes)?, claim::claim(tx, &claim)?))
        })
    }

    fn release(&self, releases: Arc<Vec<Release>>) -> StoreFuture<'_, Vec<bool>> {
        self.write(move |tx| finish::release(tx, &releases))
    }

    fn report(&self, reports: Arc<Vec<Report>>) -> StoreFuture<'_, Vec<bool>> {
        self.write(move |tx| finish::report(tx, &reports))
    }

    fn renew(&self, renewal: Renewal) -> StoreFuture<'_, Renewed> {
        self.write(move |tx| lease::renew(tx, &renewal))
    }

    fn asked_to_stop(&self, instance: InstanceId) -> StoreFuture<'_, Vec<RunRef>> {
        self.read(move |sql| lease::asked_to_stop(sql, instance))
    }

    fn recover(&self, _by: InstanceId) -> StoreFuture<'_, Vec<Recovered>> {
        Box::pin(async move {
            if self.shared.refused.is_some() {
                return Ok(Vec::new());
            }
            self.audit().await;
            let locks = Arc::clone(&self.shared.locks);
            let Some(dead) = self.read(move |sql| recover::find_dead(sql, &locks)).await? else {
                return Ok(Vec::new());
            };
            // A recovery writes each task with its arguments. On a nearly full disk there may be room for only a few tasks,
            // or only for a task with shorter arguments. So try fewer tasks, then leave out the first ones.
            let (mut most, mut skipped) = (recover::RECOVERED_AT_ONCE, 0);
            loop {
                let (locks, dead) = (Arc::clone(&self.shared.locks), dead.clone());
                let answer = self.write(move |tx| recover::recover(tx, &locks, &dead, most, skipped)).await;
                match answer {
                    Err(error) if error.kind() == StoreErrorKind::Full => match most {
                        1 if skipped >= recover::SKIPPED_AT_MOST => return Err(error),
                        1 => skipped += 1,
                        _ => most /= 4,
                    },
                    answer => return answer,
                }
            }
        })
    }

    fn listen(&self) -> HintStream {
        let changes = self.shared.changes.subscribe();
        self.shared.send(Message::Listen);
        Box::pin(futures_util::stream::unfold(changes, |mut changes| async move {
            if changes.changed().await.is_err() {
                // The store is closed: nothing will change any more.
                std::future::pending::<()>().await;
            }
            Some((Hint::Changed, changes))
        }))
    }

    fn get(&self, id: TaskId) -> StoreFuture<'_, Option<TaskRecord>> {
        self.read(move |sql| read::get(sql, id))
    }

    fn ends(&self, ids: Vec<TaskId>) -> StoreFuture<'_, Vec<TaskEnd>> {
        self.read(move |sql| read::ends(sql, &ids))
    }

    fn logs(&self, id: TaskId) -> StoreFuture<'_, Option<Vec<LogLine>>> {
        self.read(move |sql| read::logs(sql, id))
    }

    fn list(&self, filter: TaskFilter) -> StoreFuture<'_, Page<TaskRecord>> {
        self.read(move |sql| list::list(sql, &filter))
    }

    fn list_outlines(&self, filter: TaskFilter) -> StoreFuture<'_, Page<TaskRecord>> {
        self.read(move |sql| list::outlines(sql, &filter))
    }

    fn counts(&self) -> StoreFuture<'_, Counts> {
        self.read(read::counts)
    }

    fn queues(&self) -> StoreFuture<'_, Vec<QueueInfo>> {
        self.read(queues::queues)
    }

    fn queue_states(&self) -> StoreFuture<'_, Vec<QueueState>> {
        self.read(queues::states)
    }

    fn set_queue(&self, queue: String, config: Option<QueueConfig>) -> StoreFuture<'_, ()> {
        self.write(move |tx| queues::set_config(tx, &queue, config.as_ref()))
    }

    fn replace_queue(
        &self,
        queue: String,
        from: Option<QueueConfig>,
        to: Option<QueueConfig>,
    ) -> StoreFuture<'_, bool> {
        self.write(move |tx| queues::replace_config(tx, &queue, from.as_ref(), to.as_ref()))
    }

    fn instances(&self) -> StoreFuture<'_, Vec<InstanceInfo>> {
        let locks = Arc::clone(&self.shared.locks);
        self.read(move |sql| read::instances(sql, &locks))
    }

    fn cancel(&self, ids: Vec<TaskId>, reason: String) -> StoreFuture<'_, Vec<CancelOutcome>> {
        self.write(move |tx| control::cancel(tx, &ids, &reason))
    }

    fn cancel_by_run_key(&self, run_key: String) -> StoreFuture<'_, Vec<TaskId>> {
        self.write(move |tx| control::cancel_by_run_key(tx, &run_key))
    }

    fn retry(&self, tasks: Vec<Reopen>) -> StoreFuture<'_, Vec<Result<(), Error>>> {
        self.write(move |tx| control::retry(tx, &tasks))
    }

    fn delete(&self, ids: Vec<TaskId>) -> StoreFuture<'_, usize> {
        self.write(move |tx| control::delete(tx, &ids))
    }

    fn replace_args(&self, replacements: Arc<Vec<ReplaceArgs>>) -> StoreFuture<'_, Vec<bool>> {
        self.write(move |tx| control::replace_args(tx, &replacements))
    }

    fn set_paused(&self, queue: String, paused: bool) -> StoreFuture<'_, ()> {
        self.write(move |tx| queues::set_paused(tx, &queue, paused))
    }

    fn fire(&self, fire: Fire) -> StoreFuture<'_, Fired> {
        self.write(move |tx| schedule::fire(tx, &fire))
    }

    fn schedules(&self) -> StoreFuture<'_, Vec<ScheduleState>> {
        self.read(schedule::schedules)
    }

    fn schedule(&self, name: String) -> StoreFuture<'_, Option<ScheduleState>> {
        self.read(move |sql| schedule::schedule(sql, &name))
    }

    fn schedule_changes(&self, since: u64) -> StoreFuture<'_, ScheduleChanges> {
        self.read(move |sql| schedule::changes(sql, since))
    }

    fn set_schedule(&self, schedule: String, change: ScheduleChange) -> StoreFuture<'_, bool> {
        self.write(move |tx| schedule::set(tx, &schedule, &change))
    }

    fn prune(&self, retention: Retention, limit: usize) -> StoreFuture<'_, usize> {
        Box::pin(async move {
            let old = self.read(move |sql| prune::find_old(sql, retention, limit)).await?;
            self.write(move |tx| prune::prune(tx, &old)).await
        })
    }

    fn write_documents(&self, writes: Vec<DocumentWrite>) -> StoreFuture<'_, Vec<Option<u64>>> {
        Box::pin(async move {
            document::check_writes(&writes)?;
            self.write(move |tx| documents::write(tx, &writes)).await
        })
    }

    fn documents(&self, query: DocumentQuery) -> StoreFuture<'_, Vec<Document>> {
        Box::pin(async move {
            document::check_kind(query.kind)?;
            self.read(move |sql| documents::read(sql, &query)).await
        })
    }
}
