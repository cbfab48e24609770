//! The contract between the engine and a database.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;

use super::{
    Claim, Claims, Finish, Finished, Fire, Fired, InsertBatch, Inserted, LivenessStream, Recovered, Refusal,
    Release, Renewal, Renewed, Report, Retention, RunRef, ScheduleChange, ScheduleChanges, ScheduleState,
    TaskEnd,
};
use crate::model::{
    CancelOutcome, Counts, InstanceId, InstanceInfo, LogLine, Page, QueueConfig, QueueInfo, StoreError,
    TaskFilter, TaskId, TaskRecord,
};

/// What a store answers with.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Hints of a store, for as long as it is listened to.
pub type HintStream = Pin<Box<dyn Stream<Item = Hint> + Send>>;

/// Where tasks are kept. This documentation is the specification.
///
/// **Every call is one transaction**: all of it happens, or nothing (of one [`InsertGroup`](super::InsertGroup), for
/// `insert`). When a call has answered `Ok`, what it did is as durable as the store's settings say. A call that failed
/// with a [transient](StoreError::is_transient) error may be repeated: inserting an id twice inserts it once, a repeated
/// finish or release is known to be one ([`Finished::Repeated`](super::Finished::Repeated)), and a repeated report is stale
/// and harmless.
///
/// **Cancelling a call's future does not undo it.** A store finishes what it began. A claim whose answer was lost, or that
/// nobody waits for any more, is the exception: its instance does not know of its runs, so a store gives them back before
/// that instance claims again or leaves.
///
/// **Time** is the database's clock where it has one, this process's otherwise. Lengths are given as lengths, so that
/// clocks need not agree.
///
/// **States.** A task is *pending* (due, not due yet, or held), *running*, or ended. A pending task that is due, not held, and
/// whose queue is not paused can be claimed. A running task and a held one have a lease that ends at an instant, and
/// a fence.
///
/// **Fences.** Each claim, lease at insert, hold, and each way out of running or holding (finish, give back, recovery,
/// release, cancel, manual retry) leaves the task with a fence greater than any it had, or not running. A write under
/// a fence applies only if the task is running (held, for `release`) under this very fence. A run that ends in any other way
/// than by its own finish leaves the next fence. So a task that is not running has the fence of a run only if that run
/// was finished, and a finish under that fence is a repetition.
///
/// **Keys.** Among the tasks of one name, at most one that is pending, running or succeeded has a given idempotency
/// key, and at most one that is pending without an attempt has a given run key. Both hold at every instant and against
/// all processes.
///
/// **Limits.** What a claim asks for a queue in [`Claim::limits`](super::Claim::limits) holds at every instant and against
/// all processes: no more than `global_concurrency` of its tasks run, no more than `key_concurrency` of one concurrency
/// key, and no more start than [`StartWindow`](super::StartWindow) has free by the store's clock. Every claim that starts
/// tasks of a queue with a rate limit counts them there; leases at insert count in what runs and not in what starts (the
/// engine asks for none in queues with limits). Tasks that wait for others of their key cost later claims nothing,
/// however many they are, and keep no task of another key, or without one, from being claimed; among those of one key
/// the order is the usual one. Limits may change from one claim to the next, and so may those of two processes.
///
/// **Expiry.** A task whose `expires_at` has passed is never started: `claim` leaves it, an insert does not lease it, and
/// `recover` ends it as cancelled, unless it is held.
///
/// **Counting costs no scan**, and neither claim, insert nor counts slows down with the number of ended tasks, or of
/// tasks that are not due.
pub trait Store: Any + fmt::Debug + Send + Sync {
    /// Where it is, for logs and errors: no password.
    fn location(&self) -> String;

    /// What the engine should know about it.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Makes this process known. Called once before anything else: it brings the schema up to date under a lock, so
    /// that any number of processes may start at once, and refuses a schema newer than it knows. Joining again under
    /// the same id refreshes the entry.
    fn join<'a>(&'a self, instance: &'a InstanceInfo) -> StoreFuture<'a, ()>;

    /// Forgets a process that ends in order. Its runs, if it left any, are lost at once: unless it holds on to what it
    /// abandoned, the engine has finished them before.
    fn leave(&self, instance: InstanceId) -> StoreFuture<'_, ()>;

    /// Keeps new tasks. Answers for each group, in order: for each of its tasks what stands for it, or why the whole
    /// group was refused.
    ///
    /// For each task, first of: an id that is there already (the insert is being repeated) → what it was answered the
    /// first time, if that still holds: `Leased` or `Held` with its fence while it is this instance's run or hold that
    /// began with the insert (and not one that it has claimed since), the refusal while its record is `Rejected`, else
    /// `Pending`; an idempotency key that is held → `Duplicate`; a run key that waits for its first attempt →
    /// `Replaced` (arguments, time, expiry, queue, priority, tags, concurrency key and policy are the new ones; id, age,
    /// idempotency key, source and a hold the old ones); a queue in which `max_size` tasks wait for their first attempt (due, not due or held)
    /// → the group is refused, each of its tasks is counted as rejected by that queue, and one that came alone and asks
    /// for it is kept as a record of status `Rejected` with the error [`Refusal::error`](super::Refusal::error), that holds
    /// no key; otherwise it is new, and begins as its [`Start`](super::Start) says.
    ///
    /// *Waiting for the first attempt* is to be pending with attempt number 0: so is a task whose only run was given
    /// back. A task that comes back to that and finds its run key taken by another goes without it.
    fn insert(&self, batch: Arc<InsertBatch>) -> StoreFuture<'_, Vec<Result<Vec<Inserted>, Refusal>>>;

    /// Leases due tasks to an instance: highest priority first, then in the order in which they were first inserted,
    /// over all the queues asked for together, no more from each queue and in all than asked, only known names, nothing
    /// from paused queues, and within the shared limits. Beyond the instance's free slots only what may be prefetched: see
    /// [`Claim::prefetch`](super::Claim::prefetch). Each gets the next attempt number and the next fence. The answer's
    /// `next_due` minds when a rate limit will let another start.
    fn claim(&self, claim: Claim) -> StoreFuture<'_, Claims>;

    /// Ends runs. Answers for each, in order: applied, repeated (an earlier finish under this fence was applied, of whatever
    /// kind, and no other run has begun since), or stale. The task's record keeps each ended run as an attempt with its outcome,
    /// except one given back before it began. Ending a run in any way other than being lost ends a row of lost runs. One
    /// that is given back as snoozed is counted in the task's snoozes, which a manual retry sets to 0.
    fn finish(&self, finishes: Arc<Vec<Finish>>) -> StoreFuture<'_, Vec<Finished>>;

    /// `finish`, then `claim`, in one round trip and one transaction where the store can.
    fn turn(&self, finishes: Arc<Vec<Finish>>, claim: Claim) -> StoreFuture<'_, (Vec<Finished>, Claims)> {
        Box::pin(async move {
            let finished = self.finish(finishes).await?;
            // A claim that fails must not hide that the finishes are durable: the next turn claims again.
            let claims = self.claim(claim).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "a claim failed; the next turn claims again");
                Claims { next_due: Some(Duration::from_millis(100)), ..Claims::default() }
            });
            Ok((finished, claims))
        })
    }

    /// Ends holds. Answers for each, in order, whether the hold was still this instance's, or is over and the task is what the
    /// release makes of it: then the release is a repetition.
    fn release(&self, releases: Arc<Vec<Release>>) -> StoreFuture<'_, Vec<bool>>;

    /// Keeps what runs say before they end. Answers for each, in order, whether the run was still alive.
    fn report(&self, reports: Arc<Vec<Report>>) -> StoreFuture<'_, Vec<bool>>;

    /// Makes leases good for another while, and the instance seen. Called from a thread of its own with a runtime of
    /// its own, so that handlers that block the main one lose nothing.
    fn renew(&self, renewal: Renewal) -> StoreFuture<'_, Renewed>;

    /// Runs of this instance that have been asked to stop since they began.
    fn asked_to_stop(&self, instance: InstanceId) -> StoreFuture<'_, Vec<RunRef>>;

    /// Moves on runs whose lease has ended or whose process is known to be dead, by [`LostRun::next`](super::LostRun),
    /// each with an entry in its task's attempts ("worker lost"), makes holds of such processes pending, and cancels
    /// pending tasks that have expired. At most a few hundred a call; a call that answers none has found none left.
    fn recover(&self, by: InstanceId) -> StoreFuture<'_, Vec<Recovered>>;

    /// When to look for lost runs again, if that is sooner than [`Capabilities::recover_every`]: a store that knows of processes
    /// which may be dead wants to look at them at the right moment.
    fn look_again_in(&self) -> Option<Duration> {
        None
    }

    /// Shows other processes that this instance lives, by something that ends with its process, and says what becomes of that.
    /// It is shown for as long as the stream is asked for more, from the thread that renews leases. The stream ends never.
    ///
    /// Others may take an instance for dead whose sign they have not seen for 2.5 s, and [`recover`](Self::recover) then moves on
    /// those of its runs that may be repeated. A process that hears [`Liveness::Gone`](super::Liveness::Gone) stops these runs 2 s after that
    /// instant, unless it hears [`Liveness::Visible`](super::Liveness::Visible) before. A store that cannot tell a dead process from its leases needs none of
    /// this.
    fn show_life(&self, _instance: InstanceId) -> LivenessStream {
        Box::pin(futures_util::stream::pending())
    }

    /// Hints that there may be work, or that something was controlled, by other processes too where the store can
    /// tell. Never needed for correctness. Ends never; errors are the store's own to mend.
    fn listen(&self) -> HintStream;

    /// One record.
    fn get(&self, id: TaskId) -> StoreFuture<'_, Option<TaskRecord>>;

    /// Where each of these tasks is, in order, with its result and error if it has ended. Callers that wait for a task ask
    /// this, for all tasks that are waited for in one call, so it must cost far less than a [`get`](Self::get) of each.
    /// Without an implementation of its own a store pays for the records.
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

    /// What a task logged, oldest first. `None`: there is no such task.
    fn logs(&self, id: TaskId) -> StoreFuture<'_, Option<Vec<LogLine>>>;

    /// A page of records, newest first by id, of those that
    /// [`matches_base`](crate::TaskFilter::matches_base) means: the engine looks at the filter's other conditions. At most
    /// [`MAX_LOOKED_AT`](crate::TaskFilter::MAX_LOOKED_AT) records are looked at: a page may be short, and even empty, and
    /// is the last only if it has no `next`.
    fn list(&self, filter: TaskFilter) -> StoreFuture<'_, Page<TaskRecord>>;

    /// The same page of records without what may be large: arguments (`null`), result, progress and attempts. Verbs over a
    /// filter and searches read these, a thousand at a time. Without an implementation of its own a store pays for the whole
    /// records.
    fn list_outlines(&self, filter: TaskFilter) -> StoreFuture<'_, Page<TaskRecord>> {
        self.list(filter)
    }

    /// How many tasks there are of each status.
    fn counts(&self) -> StoreFuture<'_, Counts>;

    /// Every queue that has tasks, is paused, has a stored configuration or has refused a task, by name, with what is in
    /// it; of the limits only stored ones are shown. A task that is due but waits for others of its key is waiting. How
    /// many tasks are due is exact to what has come due within the last second.
    fn queues(&self) -> StoreFuture<'_, Vec<QueueInfo>>;

    /// What has been asked of queues for all processes: those that are paused or have a stored configuration, by name.
    /// Every process reads it each second, so it costs next to nothing.
    fn queue_states(&self) -> StoreFuture<'_, Vec<QueueState>>;

    /// Stores a configuration of a queue for all processes, or forgets it.
    fn set_queue(&self, queue: String, config: Option<QueueConfig>) -> StoreFuture<'_, ()>;

    /// The processes that are alive as far as the store can tell, oldest first. When each started is when it first joined,
    /// by the store's clock.
    fn instances(&self) -> StoreFuture<'_, Vec<InstanceInfo>>;

    /// Cancels pending tasks with that reason as their error, and asks running ones to stop. Answers for each, in order.
    fn cancel(&self, ids: Vec<TaskId>, reason: String) -> StoreFuture<'_, Vec<CancelOutcome>>;

    /// Cancels the tasks with this run key that wait for their first attempt.
    fn cancel_by_run_key(&self, run_key: String) -> StoreFuture<'_, Vec<TaskId>>;

    /// Reopens ended tasks that did not succeed: pending, due at once, attempts kept, as many attempts again as its
    /// policy gives, and without an `expires_at` that has passed. Answers for each, in order, why not.
    fn retry(&self, ids: Vec<TaskId>) -> StoreFuture<'_, Vec<Result<(), crate::model::Error>>>;

    /// Deletes the records of those that have ended, with their logs. Answers how many.
    fn delete(&self, ids: Vec<TaskId>) -> StoreFuture<'_, usize>;

    /// Pauses or resumes a queue for all processes, until the other is asked for.
    fn set_paused(&self, queue: String, paused: bool) -> StoreFuture<'_, ()>;

    /// Deals with one tick of a schedule, in one transaction. A tick by a definition or declaration that is not the schedule's
    /// is none, and of a schedule that has both only the declared one ticks. If it comes after those that have been dealt with, by any
    /// process, as its [`FireAfter`](super::FireAfter) says, takes note of it and inserts its task as `insert` does. A
    /// refused task is not tried again: the tick has been dealt with. While the schedule is paused nothing is inserted. A
    /// tick that only passes and is the first of its schedule is where that begins: it leaves no outcome.
    ///
    /// Other than for a start, no tick is dealt with that is further [ahead](super::Fire::ahead) of the store's clock than its
    /// `Fire` allows: it is [`Early`](super::Fired::Early). A latest tick that is further ahead than that was dealt with before
    /// the clock was set back: it counts for nothing, and the one that is dealt with now is the latest from then on.
    fn fire(&self, fire: Fire) -> StoreFuture<'_, Fired>;

    /// Every schedule of which a tick has been dealt with, that is or was paused, that has a definition or is declared, by
    /// name.
    fn schedules(&self) -> StoreFuture<'_, Vec<ScheduleState>>;

    /// One of them. However many there are, it costs the same.
    fn schedule(&self, name: String) -> StoreFuture<'_, Option<ScheduleState>>;

    /// The schedules that were defined or removed since an earlier answer's [`version`](ScheduleChanges::version), in the order
    /// of these changes: each once, as it is now. 0 asks for every schedule that has a definition. Every definition and removal
    /// makes the version greater, and every process asks once a second, so it costs next to nothing where nothing changed,
    /// however many there are. At most [`MAX`](ScheduleChanges::MAX) are answered at once. Of the removals a store may forget all
    /// but the latest [`MAX_REMOVED`](ScheduleChanges::MAX_REMOVED): a process that was away for longer deals with no tick of a
    /// removed schedule, because [`fire`](Self::fire) refuses them. A version smaller than `since` says that the store was put
    /// back to an earlier state: then ask for everything.
    fn schedule_changes(&self, since: u64) -> StoreFuture<'_, ScheduleChanges>;

    /// Changes a schedule. Answers whether it was known.
    fn set_schedule(&self, schedule: String, change: ScheduleChange) -> StoreFuture<'_, bool>;

    /// Deletes up to `limit` records of tasks that ended longer ago than `retention` says for their status, with their logs,
    /// and what is left of processes that have been gone for longer than the longest retention. Answers how many records.
    /// Records that are kept for longer never keep it from those behind them.
    fn prune(&self, retention: Retention, limit: usize) -> StoreFuture<'_, usize>;
}

/// What has been asked of a queue for all processes.
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
    /// What has been asked of that queue.
    #[must_use]
    pub fn new(name: String, paused: bool, config: Option<QueueConfig>) -> Self {
        Self { name, paused, config }
    }
}

/// What the engine should know about a store.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Capabilities {
    /// How often to look for lost runs: often where a dead process can be noticed at once.
    pub recover_every: Duration,
    /// The most tasks worth inserting in one call.
    pub max_batch: usize,
    /// How many calls of `insert` a process has under way at once. While they are, further adds gather: more calls hide
    /// the way to the store, and fewer share what a commit costs among more tasks.
    pub inserts_at_once: usize,
    /// Whether a renewal that has to wait keeps everybody else waiting too, so that no lease can be taken meanwhile: then
    /// no run is given up for it.
    pub waits_together: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            recover_every: Duration::from_secs(1),
            max_batch: 1000,
            inserts_at_once: 1,
            waits_together: false,
        }
    }
}

/// What a store heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hint {
    /// Something changed: there may be work, a request to stop, or an end somebody waits for.
    Changed,
}
