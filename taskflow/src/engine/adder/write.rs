//! The writer: writes waiting adds to the store, and answers each caller when *its* row is committed.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::group::{Group, Size};
use super::queue::AddQueue;
use crate::engine::backoff::Backoff;
use crate::engine::core::Core;
use crate::engine::late::is_late;
use crate::engine::written::Written;
use crate::model::{AddError, NewTask, StoreError, StoreErrorKind};
use crate::observe::{Counter, InRow, Meter};
use crate::store::{InsertBatch, InsertGroup, Inserted, InsertedAs, Refusal, RunRef};

/// What a store answers to an insert: for each group its tasks, or why it was refused.
type Answers = Vec<Result<Vec<Inserted>, Refusal>>;

/// The shortest time between two checks for adds that have waited too long, even with an `add_timeout` of 0.
const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// Starts a writer. It writes the waiting adds and those that come meanwhile, until none waits.
pub(super) fn start(queue: Arc<AddQueue>) {
    let core = queue.core.clone();
    let writer = Writer {
        queue,
        groups: Vec::new(),
        halves: Vec::new(),
        too_large: Vec::new(),
        taken: 0,
        batch: None,
        is_done: false,
    };
    // A runtime that has ended drops the writer at once.
    core.spawn(writer.run());
}

struct Writer {
    queue: Arc<AddQueue>,
    /// The groups of the next write, or of the write in flight.
    groups: Vec<Group>,
    /// The other halves of a write that the store refused; they are written separately.
    halves: Vec<Vec<Group>>,
    /// The groups for which alone there was no room. They are written again after the others.
    too_large: Vec<Group>,
    /// The bytes of all groups it has taken from the queue, written or not.
    taken: usize,
    /// The write in flight.
    batch: Option<Arc<InsertBatch>>,
    is_done: bool,
}

impl Writer {
    async fn run(mut self) {
        loop {
            // A caller that the last write answered may add again right away, and so join this write.
            self.queue.core.seam.yield_now().await;
            match self.queue.take() {
                Some(groups) => self.groups = groups,
                None => {
                    self.is_done = true;
                    return;
                }
            }
            self.taken = Size::all(&self.groups).bytes;
            self.write_all().await;
            self.queue.leave(mem::take(&mut self.taken));
        }
    }

    /// Writes the groups, and those that join them while the store is unavailable.
    async fn write_all(&mut self) {
        let mut backoff = Backoff::new();
        loop {
            if self.groups.is_empty() {
                match self.halves.pop() {
                    Some(half) => self.groups = half,
                    None if !self.too_large.is_empty() => self.groups = mem::take(&mut self.too_large),
                    None => return,
                }
            }
            let Err(error) = self.insert().await else { continue };
            let is_full = error.kind() == StoreErrorKind::Full;
            // The store may refuse because of one row, and a nearly full disk may have room for all but a large one. Halving
            // the write finds that row, so that no other fails.
            if (error.is_about_one_row() || is_full) && self.groups.len() > 1 {
                let half = self.groups.split_off(self.groups.len() / 2);
                self.halves.push(half);
                continue;
            }
            if is_full && !self.halves.is_empty() {
                self.too_large.append(&mut self.groups);
                continue;
            }
            self.groups.append(&mut self.too_large);
            self.give_up_late(&error);
            if !error.is_transient() {
                continue;
            }
            self.groups.extend(self.halves.drain(..).flatten());
            // Sleeps no longer than the earliest deadline here, nor than any add that comes meanwhile may wait.
            let Some(earliest) = self.groups.iter().map(|group| group.deadline).min() else { continue };
            let seam = &self.queue.core.seam;
            let patience = seam.in_time(self.queue.core.settings.add_timeout);
            let wake_at = seam.in_time(backoff.delay()).min(earliest).min(patience);
            seam.sleep_until(wake_at).await;
            // A caller whose deadline passes during the backoff gets this error, and not that a last try has no answer.
            self.give_up_late(&error);
            // The groups that came meanwhile have deadlines of their own.
            let before = Size::all(&self.groups).bytes;
            self.queue.join(&mut self.groups);
            self.taken += Size::all(&self.groups).bytes - before;
        }
    }

    /// Makes one write. After an error the groups are as before, except those whose callers have been answered.
    async fn insert(&mut self) -> Result<(), StoreError> {
        let core = self.queue.core.clone();
        let empty = || InsertGroup::new(Vec::new());
        let tasks = self.groups.iter_mut().map(|group| mem::replace(&mut group.tasks, empty())).collect();
        let batch = Arc::new(InsertBatch::new(core.instance.id, core.settings.lease, tasks));
        self.batch = Some(batch.clone());
        // A large write may take longer than an add may wait for the write to begin, since the store is already at work
        // on it.
        let patience = Size::all(&self.groups).patience();
        let until = |group: &Group| group.deadline + patience;
        self.queue.busy_until(self.groups.iter().map(until).max().unwrap_or_else(|| core.seam.instant()));
        let sent_at = core.seam.instant();
        self.groups.iter_mut().for_each(|group| {
            group.sent_at.get_or_insert(sent_at);
        });
        let began = core.health.begin();
        let write = core.store.insert(batch.clone());
        let mut write = Box::pin(core.counted("an insert", write, Written::rows));
        let mut check_at = self.groups.iter().map(until).min().unwrap_or_else(|| core.seam.instant());
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut write => break answer,
                () = core.seam.sleep_until(check_at) => {
                    let now = core.seam.instant();
                    self.groups.iter_mut().filter(|group| until(group) <= now).for_each(answer_unknown);
                    let here = self.groups.iter().filter(|group| group.is_awaited()).map(until).min();
                    let next = [here, self.queue.refuse_the_late()].into_iter().flatten().min();
                    // An add that comes from now on can wait that long.
                    check_at = next.unwrap_or_else(|| core.seam.in_time(core.settings.add_timeout.max(MIN_CHECK_INTERVAL)));
                }
            }
        };
        drop(write);
        self.batch = None;
        match answer {
            // One refused row does not mean that the store is unhealthy.
            Err(error) if error.is_about_one_row() => {
                tracing::debug!(%error, "the store refused a write of {} adds", self.groups.len());
                self.take_back(batch, &error);
                Err(error)
            }
            answer => {
                match core.health.note("an insert", began, answer.and_then(|it| complete(&batch, it))) {
                    Ok(answers) => {
                        count(&core.meter, &batch, &answers);
                        let groups = mem::take(&mut self.groups);
                        for ((group, tasks), answer) in groups.into_iter().zip(&batch.groups).zip(answers) {
                            self.answer(group, tasks, answer);
                        }
                        Ok(())
                    }
                    Err(error) => {
                        self.take_back(batch, &error);
                        Err(error)
                    }
                }
            }
        }
    }

    /// Moves the tasks back into their groups after an error.
    fn take_back(&mut self, batch: Arc<InsertBatch>, error: &StoreError) {
        let tasks = Arc::try_unwrap(batch).map_or_else(|shared| shared.groups.clone(), |batch| batch.groups);
        for (group, tasks) in self.groups.iter_mut().zip(tasks) {
            group.tasks = tasks;
            group.in_doubt |= error.kind() == StoreErrorKind::Unknown;
            group.sent_at = group.sent_at.filter(|_| group.in_doubt);
        }
    }

    /// Starts the leased tasks, returns the slots of the others, and answers the caller.
    fn answer(&self, mut group: Group, tasks: &InsertGroup, answer: Result<Vec<Inserted>, Refusal>) {
        let queue = &self.queue;
        let permits = mem::take(&mut group.permits);
        let inserted = match answer {
            Ok(inserted) => inserted,
            Err(Refusal::QueueFull { queue: name, max_size }) => {
                queue.forget(group.announced, tasks);
                queue.free(permits);
                let full = AddError::QueueFull { queue: name, max_size };
                refused(&queue.core, tasks, &full);
                return group.answer(Err(full));
            }
        };
        let mut holds = Vec::new();
        for ((insert, inserted), permit) in tasks.tasks.iter().zip(&inserted).zip(permits.each()) {
            if group.announced {
                let task = inserted.kind.is_new().then_some(&insert.task);
                queue.core.events.added(insert.task.id, task);
            }
            match (inserted.kind, permit, &queue.worker) {
                (InsertedAs::Leased { fence }, Some(permit), Some(worker)) => {
                    let asked = group.sent_at.unwrap_or_else(|| queue.core.seam.instant());
                    worker.start_leased(&insert.task, RunRef::new(inserted.id, fence), permit, asked);
                }
                (kind, permit, worker) => {
                    queue.free_each([permit]);
                    match (kind, worker) {
                        (InsertedAs::Held { fence }, _) => holds.push(RunRef::new(inserted.id, fence)),
                        (InsertedAs::Pending | InsertedAs::Replaced, Some(worker)) => worker.may_have_work(),
                        _ => {}
                    }
                }
            }
        }
        holds.iter().for_each(|hold| queue.core.holds.begin(*hold));
        let age = group.sent_at.map(|sent_at| queue.core.seam.since(sent_at)).unwrap_or_default();
        if !holds.is_empty() && is_late(age, queue.core.settings.lease) {
            queue.core.late.soon.notify_one();
        }
        if let (Some(hold_owner), false) = (&group.hold_owner, holds.is_empty()) {
            hold_owner.held(holds);
        }
        // The caller may have given up waiting; the tasks are stored anyway.
        group.answer(Ok(inserted));
    }

    /// Answers the groups that cannot be written: all of them after an error that no retry can fix, otherwise those whose
    /// deadline has passed.
    fn give_up_late(&mut self, error: &StoreError) {
        let now = self.queue.core.seam.instant();
        let late = self.groups.extract_if(.., |group| !error.is_transient() || group.deadline <= now);
        for mut group in late.collect::<Vec<_>>() {
            self.queue.abandon(&mut group);
            let answer = group.error(error.clone());
            group.answer(Err(answer));
        }
    }
}

/// Sends the event of a group that a full queue refused: of its first task in that queue.
fn refused(core: &Core, tasks: &InsertGroup, full: &AddError) {
    let AddError::QueueFull { queue, .. } = full else { return };
    let in_queue = tasks.tasks.iter().find(|insert| insert.task.queue == **queue);
    if let Some(insert) = in_queue {
        core.rejected(&insert.task, full);
    }
}

/// Counts the tasks that are new, and those that a full queue refused.
fn count(meter: &Meter, batch: &InsertBatch, answers: &Answers) {
    let mut tasks = InRow::new(meter);
    for (group, answer) in batch.groups.iter().zip(answers) {
        for (at, NewTask { name, queue, .. }) in group.tasks.iter().map(|insert| &insert.task).enumerate() {
            match answer {
                Ok(inserted) if inserted[at].kind.is_new() => tasks.count(name, queue, Counter::Added),
                Ok(_) => {}
                Err(Refusal::QueueFull { .. }) => tasks.count(name, queue, Counter::Rejected),
            }
        }
    }
}

/// Checks that the answer of a store names every task. An answer that does not counts as lost: the insert is repeated, and
/// the callers hear that their tasks may be stored.
fn complete(batch: &InsertBatch, answers: Answers) -> Result<Answers, StoreError> {
    let names_all = |(group, answer): (&InsertGroup, &Result<Vec<Inserted>, Refusal>)| {
        answer.as_ref().map_or(true, |inserted| inserted.len() == group.tasks.len())
    };
    if answers.len() == batch.groups.len() && batch.groups.iter().zip(&answers).all(names_all) {
        return Ok(answers);
    }
    Err(StoreError::new(StoreErrorKind::Unknown, "the store's answer does not name every inserted task"))
}

/// Answers a caller that cannot wait longer: the outcome is unknown, and the write goes on.
fn answer_unknown(group: &mut Group) {
    let slow = StoreError::new(StoreErrorKind::Unknown, "the store has not answered yet");
    let id = group.id;
    group.answer(Err(AddError::Unknown { id, source: slow }));
}

/// A writer is dropped early when the runtime ends or the store panics. It still answers every caller.
impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let panicked = std::thread::panicking();
        if panicked {
            self.queue.core.health.restarted("the adder", "panicked while it wrote");
            // The panic may have come after the store had answered.
            self.groups.iter_mut().for_each(|group| group.in_doubt = true);
        }
        if let Some(batch) = self.batch.take() {
            for (group, tasks) in self.groups.iter_mut().zip(&batch.groups) {
                group.tasks = tasks.clone();
                group.in_doubt = true;
            }
        }
        let why =
            if panicked { "the store panicked while it wrote" } else { "the runtime ended during the write" };
        let groups = mem::take(&mut self.groups);
        let halves = mem::take(&mut self.halves).into_iter().flatten();
        for mut group in groups.into_iter().chain(halves).chain(mem::take(&mut self.too_large)) {
            self.queue.abandon(&mut group);
            let error = StoreError::new(StoreErrorKind::Unknown, why);
            let answer = if group.in_doubt || panicked { group.error(error) } else { AddError::ShutDown };
            group.answer(Err(answer));
        }
        self.queue.leave(mem::take(&mut self.taken));
        if self.queue.writer_died(panicked) {
            start(self.queue.clone());
        }
    }
}
