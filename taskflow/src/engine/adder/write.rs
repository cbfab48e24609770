//! The writer: writes waiting adds to the store, and answers each caller when *its* row is committed.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::group::{Group, Size};
use super::queue::AddQueue;
use super::stored::{complete, count, stored};
use crate::engine::panics::caught;
use crate::engine::store_backoff::Backoff;
use crate::engine::written::Written;
use crate::model::{AddError, StoreError, StoreErrorKind};
use crate::store::{InsertBatch, InsertGroup};

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
        has_panicked: false,
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
    /// Groups that, even alone, did not fit into the full store. They are tried again after the others.
    too_large: Vec<Group>,
    /// The bytes of all groups it has taken from the queue, written or not.
    taken: usize,
    /// The write in flight.
    batch: Option<Arc<InsertBatch>>,
    is_done: bool,
    /// Whether a write panicked, mostly in the store. Whether the thread is panicking when the writer is dropped does not show
    /// this: the program itself may be panicking.
    has_panicked: bool,
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
            if caught(self.write_all()).await.is_err() {
                self.has_panicked = true;
                return;
            }
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
            // Sleeps at most until the earliest deadline of these groups, and at most as long as an add that comes now may wait.
            let Some(earliest) = self.groups.iter().map(|group| group.deadline).min() else { continue };
            let seam = &self.queue.core.seam;
            let patience = seam.in_time(self.queue.core.settings.add_timeout);
            let wake_at = seam.in_time(backoff.delay()).min(earliest).min(patience);
            seam.sleep_until(wake_at).await;
            // A caller whose deadline passes during the back-off gets this error now: after one more try without an answer it
            // would only learn that the outcome is unknown.
            self.give_up_late(&error);
            // The groups that came meanwhile join this write, with their own deadlines.
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
        // `add_timeout` limits how long an add waits for its write to begin. A large write may take longer than that, since
        // the store is already at work on it.
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
                        for ((mut group, tasks), answer) in groups.into_iter().zip(&batch.groups).zip(answers)
                        {
                            // The caller may have given up waiting; the tasks are stored anyway.
                            let answer = stored(&self.queue, &mut group, tasks, answer);
                            group.answer(answer);
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

/// Answers a caller that cannot wait longer: the outcome is unknown, and the write goes on.
fn answer_unknown(group: &mut Group) {
    let slow = StoreError::new(StoreErrorKind::Unknown, "the store has not answered yet");
    let id = group.id;
    group.answer(Err(AddError::Unknown { id, source: slow }));
}

/// A writer is dropped early when the runtime ends or a write panics. It still answers every caller.
impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let panicked = self.has_panicked;
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
