//! The contract between the engine and a database: what every store must do.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use serde_json::value::RawValue;

use super::{
    Claim, Claims, Document, DocumentQuery, DocumentWrite, Finish, Finished, Fire, Fired, InsertBatch,
    Inserted, LivenessStream, Recovered, Refusal, Release, Renewal, Renewed, Reopen, Report, Retention,
    RunRef, ScheduleChange, ScheduleChanges, ScheduleState, TaskEnd,
};
use crate::model::{
    CancelOutcome, Counts, InstanceId, InstanceInfo, LogLine, Page, QueueConfig, QueueInfo, StoreError,
    StoreErrorKind, TaskFilter, TaskId, TaskRecord,
};

/// The future that a call of a [`Store`] returns.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A stream of a store's hints, see [`Store::listen`]. It never ends.
pub type HintStream = Pin<Box<dyn Stream<Item = Hint> + Send>>;

/// A database that keeps tasks. This documentation is the specification: implement this trait to add a store.
///
/// **Every call is one transaction**: all of it happens, or nothing does. There are two exceptions: in `insert`, each
/// [`InsertGroup`](super::InsertGroup) is all or nothing by itself, and [`turn`](Self::turn) may be two transactions. When
/// a call has answered `Ok`, its writes have been stored as durably as the store's settings say. The engine may repeat a
/// call that failed with a [transient](StoreError::is_transient) error. So inserting an id twice inserts it once, and a
/// repeated finish or release is recognized as a repetition ([`Finished::Repeated`](super::Finished::Repeated)). A
/// repeated report is stale if the run has ended; else it stores no line twice, because it says
/// [where its lines begin](super::Report::lines_before).
///
/// **Cancelling a call's future does not undo it.** A store finishes what it began. A claim is the exception if its
/// answer was lost, or if nobody waits for the answer any more: the instance does not know of the claimed runs. The
/// store gives these runs back before the instance claims again or leaves.
///
/// **Time** is the time of the database's clock if it has one, else of this process's clock. The engine passes
/// durations, not instants, so clocks need not agree.
///
/// **States.** A task is *pending* (due, not due yet, or held), *running*, or ended. A pending task can be claimed if
/// it is due, it is not held, and its queue is not paused. A running task and a held task have a fence, and a lease
/// that ends at an instant.
///
/// **Fences.** A fence is a number that only grows for each task. Each of these leaves the task either with a fence
/// greater than any it had before, or not running: a claim, a lease at insert, a hold, and every way out of running or
/// of a hold (finish, give back, recovery, release, cancel, manual retry). A write under a fence applies only if the
/// task is running (for `release`: held) under exactly this fence. A run that ends in any way other than by its own
/// finish leaves the next fence. So if a task is not running and has the fence of a run, that run was finished, and
/// another finish under that fence is a repetition.
///
/// **Keys.** Among the tasks of one name, at most one pending, running or succeeded task has a given idempotency key,
/// and at most one task that waits for its first attempt has a given run key. Both rules hold at every instant and
/// across all processes.
///
/// **Limits.** The limits of a queue in [`ClaimQueue::shared`](super::ClaimQueue::shared) hold at every instant and across all
/// processes: at most `global_concurrency` tasks of the queue run, at most `key_concurrency` tasks of one concurrency
/// key run, and no more tasks start than [`StartWindow`](super::StartWindow) has free by the store's clock. Every claim
/// that starts tasks of a queue with a rate limit counts them in that window. A lease at insert counts as a running
/// task, but not as a start; the engine asks for no such lease in queues with limits. Tasks blocked by their
/// concurrency key never slow down later claims, however many there are, and never keep a task of another key, or
/// without a key, from being claimed. The tasks of one key are claimed in the usual order. Limits may change from one
/// claim to the next, and two processes may ask for different limits.
///
/// **Expiry.** A task whose `expires_at` has passed is never started: `claim` skips it, an insert does not lease it,
/// and `recover` ends it as cancelled unless it is held.
///
/// **Counting costs no scan.** Neither a claim, nor an insert, nor the counts slow down with the number of ended tasks,
/// or with the number of tasks that are not due.
pub trait Store: Any + fmt::Debug + Send + Sync {
    /// The store's address, for logs and errors. It never contains a password.
    fn location(&self) -> String;

    /// What the engine should know about this store.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Makes the schema, or brings it up to date, under a lock, so that any number of processes may do so at once. It
    /// refuses a schema that is newer than this version of the store knows. The default, for a store without a schema, does
    /// nothing.
    fn migrate(&self) -> StoreFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Fails if there is no store of this version, as [`join`](Self::join) does for a process that runs no tasks. The error is
    /// [`StoreError::missing`] if [`migrate`](Self::migrate) would create the store or update its schema. This call writes
    /// nothing: a process that only reads the store calls it instead of `join`. The default always succeeds: it is for a store
    /// that needs no schema, or that has checked its schema when it was opened.
    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Registers this process. If the process [runs tasks](InstanceInfo::runs), this is its first call, and the store
    /// [migrates](Self::migrate) first. Any other process may read before it has joined, and tries to join until it
    /// succeeds. It changes no schema: its join fails with [`StoreErrorKind::NotAStore`] if there is no store of this
    /// version. Joining again under the same id refreshes the entry.
    fn join<'a>(&'a self, instance: &'a InstanceInfo) -> StoreFuture<'a, ()>;

    /// Removes a process that shuts down in order. The leases of runs and holds that it still has end at once. The engine
    /// has finished them before that; it does not call `leave` while abandoned tasks still hold their leases.
    fn leave(&self, instance: InstanceId) -> StoreFuture<'_, ()>;

    /// Stores new tasks. Answers for each group, in order: for each task of the group, the task that stands for the
    /// add; or why the whole group was refused.
    ///
    /// For each task, the first rule that applies decides:
    ///
    /// - Its id is there already, because the insert is being repeated → the first answer, if it still holds: `Leased`
    ///   or `Held` with its fence while the run or hold that began with the insert is still this instance's (a run that
    ///   it has claimed since does not count), the refusal while the task's record is `Rejected`, else `Pending`.
    /// - Another task holds its idempotency key → `Duplicate`.
    /// - A task with its run key waits for its first attempt → `Replaced`. The waiting task gets the new arguments,
    ///   time, expiry, queue, priority, tags, concurrency key and policy. It keeps its id, age, idempotency key,
    ///   source, and its hold if it has one.
    /// - `max_size` tasks already wait for their first attempt in its queue (due, not due or held) → the group is
    ///   refused, and the queue counts each of the group's tasks as rejected. A task that is alone in its group and
    ///   asks for it ([`record_rejected`](super::InsertTask::record_rejected)) is kept as a record of status `Rejected`
    ///   with the error [`Refusal::error`](super::Refusal::error); that record holds no key.
    /// - Otherwise the task is new, and begins as its [`Start`](super::Start) says.
    ///
    /// A task *waits for its first attempt* if it is pending with attempt number 0. Its number is 0 again if none of its
    /// runs counts as an attempt: each was given back, or was lost under `requeue_on_interrupt`. If such a task returns to
    /// this state and another task has taken its run key meanwhile, it loses its run key.
    fn insert(&self, batch: Arc<InsertBatch>) -> StoreFuture<'_, Vec<Result<Vec<Inserted>, Refusal>>>;

    /// The part of this store that answers without waiting; the default is `None`. If there is one, the engine inserts in the
    /// task of each caller, without an `add_timeout`. Implement it for a store in the process's own memory. If there is none,
    /// adds that arrive while an insert is in flight share the next [`insert`](Self::insert).
    fn immediate(&self) -> Option<&dyn Immediate> {
        None
    }

    /// Leases due tasks to an instance: highest priority first, then in the order in which they were first inserted,
    /// over all requested queues together. It leases at most the requested number from each queue and in all, only
    /// tasks with names that the instance knows, none from paused queues, and none beyond the shared limits. Beyond the
    /// instance's free slots it leases only tasks that may be prefetched: see
    /// [`Claim::prefetch`](super::Claim::prefetch). Each leased task gets the next attempt number and the next fence.
    /// The answer's `next_due` includes the instant at which a rate limit lets another task start.
    fn claim(&self, claim: Claim) -> StoreFuture<'_, Claims>;

    /// Ends runs. Answers for each, in order: applied, repeated (an earlier finish of any kind under this fence was
    /// applied, and no other run has begun since), or stale. The task's record keeps each ended run as an attempt with
    /// its outcome, except a run that was given back before it began. A run that ends in any way other than being lost
    /// resets the count of lost runs in a row. A run that is given back as snoozed adds 1 to the task's snoozes; a
    /// manual retry resets them to 0.
    fn finish(&self, finishes: Arc<Vec<Finish>>) -> StoreFuture<'_, Vec<Finished>>;

    /// [`finish`](Self::finish), then [`claim`](Self::claim): in one round trip and one transaction if the store can.
    fn turn(&self, finishes: Arc<Vec<Finish>>, claim: Claim) -> StoreFuture<'_, (Vec<Finished>, Claims)> {
        Box::pin(async move {
            let finished = self.finish(finishes).await?;
            // A claim that fails must not hide that the finishes have been stored: the next turn claims again.
            let claims = self.claim(claim).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "a claim failed; the next turn claims again");
                Claims { next_due: Some(Duration::from_millis(100)), ..Claims::default() }
            });
            Ok((finished, claims))
        })
    }

    /// [`release`](Self::release), [`finish`](Self::finish), then [`claim`](Self::claim), which gets what was released. The
    /// engine calls this only if [`Capabilities::releases_in_turns`] is set; a store that sets it does all in one
    /// transaction.
    fn release_and_turn(
        &self,
        releases: Arc<Vec<Release>>,
        finishes: Arc<Vec<Finish>>,
        claim: Claim,
    ) -> StoreFuture<'_, ReleasedTurn> {
        Box::pin(async move {
            let released = self.release(releases).await?;
            let (finished, claims) = self.turn(finishes, claim).await?;
            Ok((released, finished, claims))
        })
    }

    /// Ends holds. Answers for each, in order: `true` if the hold was still this instance's. Also `true` if the hold is
    /// over and the task already is what the release makes of it: then the release is a repetition. Else `false`, and
    /// nothing changed.
    fn release(&self, releases: Arc<Vec<Release>>) -> StoreFuture<'_, Vec<bool>>;

    /// Stores progress and log lines of runs that have not ended. Answers for each, in order, whether the run was still
    /// running under its fence. A report of any other run changes nothing.
    fn report(&self, reports: Arc<Vec<Report>>) -> StoreFuture<'_, Vec<bool>>;

    /// Extends leases, and records that the instance was seen now. The engine calls it from a separate thread with a
    /// runtime of its own, so that handlers that block the main runtime lose no lease.
    fn renew(&self, renewal: Renewal) -> StoreFuture<'_, Renewed>;

    /// The runs of this instance that have been asked to stop since they began.
    fn asked_to_stop(&self, instance: InstanceId) -> StoreFuture<'_, Vec<RunRef>>;

    /// Handles what dead processes left behind. It moves on runs whose lease has ended or whose process the store
    /// considers dead, by the rule [`LostRun::next`](super::LostRun::next), and adds an entry ("worker lost") to the
    /// attempts of each task. It ends the holds whose lease has ended. It also cancels pending tasks that have expired. One
    /// call handles at most a few hundred tasks; a call that answers none has found none to move on.
    fn recover(&self, by: InstanceId) -> StoreFuture<'_, Vec<Recovered>>;

    /// When to call [`recover`](Self::recover) again, if that is sooner than [`Capabilities::recover_every`]. A store
    /// that suspects a process to be dead uses this to check again at the right moment.
    fn look_again_in(&self) -> Option<Duration> {
        None
    }

    /// Shows other processes that this instance is alive, by something that disappears when its process dies, and
    /// reports whether it is still visible. The store shows it for as long as the stream is polled; the engine polls it
    /// from the thread that renews leases. The stream never ends.
    ///
    /// Other processes may consider an instance dead when they have not seen its liveness for 2.5 s;
    /// [`recover`](Self::recover) then moves on those of its runs that may be repeated. A process that receives
    /// [`Liveness::Gone`](super::Liveness::Gone) stops these runs 2 s after its `since`, unless it receives
    /// [`Liveness::Visible`](super::Liveness::Visible) before. A store that notices dead processes only by their leases
    /// does not implement this; the default stream never yields.
    fn show_life(&self, _instance: InstanceId) -> LivenessStream {
        Box::pin(futures_util::stream::pending())
    }

    /// A stream of hints that there may be work, that tasks have ended, or that something else has changed, such as a pause
    /// or a request to stop. It includes the changes of other processes if the store can notice them. Hints are never needed
    /// for correctness. A store that does not know what changed sends [`Hint::Changed`]. The stream never ends; the store
    /// repairs its own errors.
    fn listen(&self) -> HintStream;

    /// The record of a task; `None` if there is none.
    fn get(&self, id: TaskId) -> StoreFuture<'_, Option<TaskRecord>>;

    /// The state of each of these tasks, in order, with its result and error if it has ended. Callers that wait for
    /// tasks use this, in one call for all awaited tasks, so it must cost far less than a [`get`](Self::get) of each.
    /// The default implementation reads the whole records.
    fn ends(&self, ids: Vec<TaskId>) -> StoreFuture<'_, Vec<TaskEnd>> {
        Box::pin(async move {
            let mut ends = Vec::with_capacity(ids.len());
            for id in ids {
                ends.push(match self.get(id).await? {
                    Some(record) => {
                        let result = record.result.map(|json| Arc::from(json.get()));
                        TaskEnd::of(record.status, result, record.error)
                    }
                    None => TaskEnd::Gone,
                });
            }
            Ok(ends)
        })
    }

    /// The log lines of a task, oldest first; `None` if there is no such task.
    fn logs(&self, id: TaskId) -> StoreFuture<'_, Option<Vec<LogLine>>>;

    /// A page of the records that match [`matches_base`](crate::TaskFilter::matches_base), in the filter's
    /// [order](crate::TaskFilter::order) of ids. The engine applies the filter's other conditions. The store examines at most
    /// [`MAX_LOOKED_AT`](crate::TaskFilter::MAX_LOOKED_AT) records: so a page may be short or even empty, and it is the
    /// last page only if it has no `next`.
    fn list(&self, filter: TaskFilter) -> StoreFuture<'_, Page<TaskRecord>>;

    /// The same page as [`list`](Self::list), without the parts that may be large: arguments (`null`), result, progress
    /// and attempts. Bulk actions on a filter and searches read these, a thousand at a time. The default implementation
    /// reads the whole records and drops these parts.
    fn list_outlines(&self, filter: TaskFilter) -> StoreFuture<'_, Page<TaskRecord>> {
        Box::pin(async move {
            let mut page = self.list(filter).await?;
            for record in &mut page.items {
                record.args = RawValue::NULL.to_owned();
                (record.result, record.progress) = (None, None);
                record.attempts.clear();
            }
            Ok(page)
        })
    }

    /// How many tasks there are of each status.
    fn counts(&self) -> StoreFuture<'_, Counts>;

    /// Every queue that has tasks, is paused, has a stored configuration or has refused a task, ordered by name, with its
    /// numbers. Of the limits, only stored ones are shown. A task that is due but blocked by its concurrency key counts
    /// as waiting. The number of due tasks may lag by up to one second behind tasks that have just come due.
    fn queues(&self) -> StoreFuture<'_, Vec<QueueInfo>>;

    /// The state of each queue that is paused or has a stored configuration, ordered by name. Every process reads it each
    /// second, so it must cost next to nothing.
    fn queue_states(&self) -> StoreFuture<'_, Vec<QueueState>>;

    /// Stores the configuration of a queue for all processes; `None` deletes it.
    ///
    /// The default implementations of this call and of the one below are those of a store without limits: they answer
    /// [`StoreErrorKind::Unsupported`].
    fn set_queue(&self, _queue: String, _config: Option<QueueConfig>) -> StoreFuture<'_, ()> {
        unsupported(self, "keeps no configurations of queues")
    }

    /// Like [`set_queue`](Self::set_queue), but only if the stored configuration is `from`; one that cannot be read counts as
    /// none. Answers whether it was `from`; if not, nothing changes. So two processes that change one configuration at once
    /// lose no change.
    fn replace_queue(
        &self,
        _queue: String,
        _from: Option<QueueConfig>,
        _to: Option<QueueConfig>,
    ) -> StoreFuture<'_, bool> {
        unsupported(self, "keeps no configurations of queues")
    }

    /// The processes that are alive as far as the store knows, oldest first. The start of a process is the time at
    /// which it joined, by the store's clock; joining again does not change it while the process is listed.
    fn instances(&self) -> StoreFuture<'_, Vec<InstanceInfo>>;

    /// Cancels pending tasks, with `reason` as their error, and asks running tasks to stop. Answers for each, in order.
    fn cancel(&self, ids: Vec<TaskId>, reason: String) -> StoreFuture<'_, Vec<CancelOutcome>>;

    /// Cancels the tasks with this run key that wait for their first attempt. Answers their ids.
    fn cancel_by_run_key(&self, run_key: String) -> StoreFuture<'_, Vec<TaskId>>;

    /// Reopens ended tasks that did not succeed. A reopened task is pending, and due after the [delay](Reopen::delay); it
    /// keeps its attempts, gets as many new attempts as its policy allows, and loses an `expires_at` that has passed.
    /// Answers for each, in order: `Ok`, or why it cannot be reopened.
    fn retry(&self, tasks: Vec<Reopen>) -> StoreFuture<'_, Vec<Result<(), crate::model::Error>>>;

    /// Deletes the records and logs of these tasks, except of those that have not ended. Answers how many it deleted.
    fn delete(&self, ids: Vec<TaskId>) -> StoreFuture<'_, usize>;

    /// Replaces the arguments of tasks, if they still are what the caller has read. A run that is under way keeps those that
    /// it was given. Each task occurs once. Answers for each, in order, whether its task was there with these arguments.
    ///
    /// The default implementation answers [`StoreErrorKind::Unsupported`]; only
    /// [`rewrap`](crate::TaskManager#method.rewrap) needs this call.
    fn replace_args(&self, _replacements: Arc<Vec<ReplaceArgs>>) -> StoreFuture<'_, Vec<bool>> {
        unsupported(self, "cannot replace arguments")
    }

    /// Pauses or resumes a queue for all processes. It stays so until the next call.
    fn set_paused(&self, queue: String, paused: bool) -> StoreFuture<'_, ()>;

    /// Handles one tick of a schedule, in one transaction. The store ignores a tick whose definition or declaration is
    /// not the schedule's current one; if a schedule has both, only the declared one ticks. If the tick comes after all
    /// ticks that any process has handled, as its [`FireAfter`](super::FireAfter) says, the store records it and
    /// inserts its task as [`insert`](Self::insert) does. A task that was refused is not tried again: the tick has been
    /// handled. While the schedule is paused, the store records its ticks without inserting tasks; a pause does not
    /// apply to ticks for a start of the program. A schedule begins at its first tick; if that tick has no task to
    /// insert, it leaves no outcome.
    ///
    /// A tick that is further [ahead](super::Fire::ahead) of the store's clock than its `Fire` allows is not handled:
    /// the answer is [`Early`](super::Fired::Early). Ticks for a start of the program are exempt. If the latest handled
    /// tick is further ahead than that, it was handled before the clock was set back. The store ignores that latest tick, and
    /// the tick that is handled now becomes the latest.
    ///
    /// The default implementations of this call and of the four below are those of a store without schedules: it knows none,
    /// and answers [`StoreErrorKind::Unsupported`] to a tick or a change.
    fn fire(&self, _fire: Fire) -> StoreFuture<'_, Fired> {
        unsupported(self, "keeps no schedules")
    }

    /// Every schedule that has had a tick handled, is or was paused, has a definition, or is or was declared; ordered by
    /// name. A schedule is forgotten when its definition is removed while no program declares it.
    fn schedules(&self) -> StoreFuture<'_, Vec<ScheduleState>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// One schedule by its name. The cost does not depend on how many schedules there are.
    fn schedule(&self, _name: String) -> StoreFuture<'_, Option<ScheduleState>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// The schedules that were defined or removed since an earlier answer's [`version`](ScheduleChanges::version), in
    /// the order of these changes: each once, as it is now. `since` 0 asks for every schedule that has a definition.
    ///
    /// Every definition and removal increases the version. Every process asks once a second, so a call must cost next
    /// to nothing if nothing changed, however many schedules there are. One answer contains at most
    /// [`MAX`](ScheduleChanges::MAX) changes. A store may forget all removals but the latest
    /// [`MAX_REMOVED`](ScheduleChanges::MAX_REMOVED): a process that was away for longer still never adds a task for a
    /// removed schedule, because [`fire`](Self::fire) refuses its ticks. If the answered version is smaller than
    /// `since`, the store was restored to an earlier state: then ask for everything again.
    fn schedule_changes(&self, since: u64) -> StoreFuture<'_, ScheduleChanges> {
        Box::pin(std::future::ready(Ok(ScheduleChanges::new(since, Vec::new(), false))))
    }

    /// Changes a schedule. Answers whether the store knew the schedule; for
    /// [`Removed`](super::ScheduleChange::Removed), whether it had a definition.
    fn set_schedule(&self, _schedule: String, _change: ScheduleChange) -> StoreFuture<'_, bool> {
        unsupported(self, "keeps no schedules")
    }

    /// Deletes up to `limit` records of tasks that ended longer ago than `retention` says for their status, with their
    /// logs, and up to `limit` documents that have expired. Also deletes what is left of processes that have been gone
    /// for longer than the longest retention. Answers how many records it deleted, or how many documents if these were
    /// more: so fewer than `limit` means that none is left. Records that are kept for longer never delay the deletion of
    /// the records behind them.
    fn prune(&self, retention: Retention, limit: usize) -> StoreFuture<'_, usize>;

    /// Writes documents, in order and in one transaction. Answers for each its new version, or `None` if it did not have
    /// the [expected](DocumentWrite::expected) version: then that one is not written, and the others are. A delete
    /// answers the version of the deleted document, and 0 if there was none. A document that has expired counts as
    /// none, and so does one that another program has damaged. One key may be written several times in one call: each
    /// write sees the one before it.
    ///
    /// If one of the writes is beyond a limit of [`Document`](super::Document), or its kind or key is invalid, the whole
    /// call is refused and writes nothing.
    ///
    /// Documents never slow down a claim or an insert, however many there are, and [`prune`](Self::prune) deletes those
    /// that have expired. The default implementation keeps none and answers [`StoreErrorKind::Unsupported`]; then
    /// taskflow has no statistics, no audit log and no sessions.
    fn write_documents(&self, _writes: Vec<DocumentWrite>) -> StoreFuture<'_, Vec<Option<u64>>> {
        unsupported(self, "keeps no documents")
    }

    /// The documents that match, at most [`Document::MAX_BATCH`](super::Document::MAX_BATCH), in the order of their
    /// keys; none that have expired or are damaged. The cost depends on the answer, and on the documents in its range
    /// that have expired since the last [`prune`](Self::prune), but not on how many others there are. A store may read
    /// a large answer in several steps; then documents that are written meanwhile may be in it or not.
    fn documents(&self, _query: DocumentQuery) -> StoreFuture<'_, Vec<Document>> {
        unsupported(self, "keeps no documents")
    }
}

/// The error of a call that a store does not support. `fact` completes the sentence "the store X ...".
fn unsupported<'a, T: Send + 'a>(store: &(impl Store + ?Sized), fact: &str) -> StoreFuture<'a, T> {
    let message = format!("the store {} {fact}", store.location());
    Box::pin(std::future::ready(Err(StoreError::new(StoreErrorKind::Unsupported, message))))
}

/// New arguments for a task, and the stored ones that they replace.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReplaceArgs {
    /// The task.
    pub id: TaskId,
    /// The arguments that are stored, as the store answered them.
    pub from: Arc<str>,
    /// The arguments to store, as JSON.
    pub to: Arc<str>,
}

impl ReplaceArgs {
    /// Stores `to` for that task, if `from` is stored.
    #[must_use]
    pub fn new(id: TaskId, from: impl Into<Arc<str>>, to: impl Into<Arc<str>>) -> Self {
        Self { id, from: from.into(), to: to.into() }
    }
}

/// The state of a queue that applies to all processes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueState {
    /// The queue.
    pub name: String,
    /// Whether it is paused.
    pub paused: bool,
    /// Its stored configuration.
    pub config: Option<QueueConfig>,
}

impl QueueState {
    /// The state of that queue.
    #[must_use]
    pub fn new(name: String, paused: bool, config: Option<QueueConfig>) -> Self {
        Self { name, paused, config }
    }
}

/// What the engine should know about a store: how often to call it, and with how much.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Capabilities {
    /// How often to call [`Store::recover`]; default 1 s. Choose a short interval if the store can notice a dead
    /// process at once.
    pub recover_every: Duration,
    /// The most tasks worth inserting in one call; default 1000.
    pub max_batch: usize,
    /// How many [`insert`](Store::insert) calls a process has in flight at once; default 1. Adds that arrive meanwhile
    /// gather for the next call. More calls hide the round trip to the store; fewer calls share the cost of a commit
    /// among more tasks.
    pub inserts_at_once: usize,
    /// Whether a renewal that has to wait makes all other writers wait too; default `false`. If `true`, no other process can
    /// take a lease meanwhile, and the engine gives up no run because of a slow renewal.
    pub waits_together: bool,
    /// Whether [`Store::release_and_turn`] is one transaction; default `false`. If `true`, the engine releases and claims the
    /// tasks of an answered web request in one write.
    pub releases_in_turns: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            recover_every: Duration::from_secs(1),
            max_batch: 1000,
            inserts_at_once: 1,
            waits_together: false,
            releases_in_turns: false,
        }
    }
}

/// The answers to a turn that also ends holds: for each release, for each finish, and to the claim.
pub type ReleasedTurn = (Vec<bool>, Vec<Finished>, Claims);

/// What a store does without waiting, see [`Store::immediate`].
pub trait Immediate {
    /// Does what [`Store::insert`] does, and returns its answer.
    fn insert_now(&self, batch: &InsertBatch) -> Vec<Result<Vec<Inserted>, Refusal>>;
}

/// A hint from a store, see [`Store::listen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hint {
    /// Anything may have changed: there may be work, a request to stop, or an ended task that a caller waits for.
    Changed,
    /// There may be work, and nothing else has changed.
    Work,
    /// Tasks have ended that a caller may wait for. Nothing else has changed: no further task can start because of this.
    Ends,
}
