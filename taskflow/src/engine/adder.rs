//! From an add to the store. Adds that come while writes are in flight gather and go together in the next; a caller
//! is answered when *its* row is committed. No timer gathers them, so an idle system adds no latency.

use std::cmp::Reverse;
use std::iter;
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::core::Core;
use super::holds::Holder;
use super::pause::{Backoff, in_time};
use super::runner::Runner;
use super::slots::Seat;
use crate::model::{AddError, NewTask, StoreError, StoreErrorKind, TaskId, When};
use crate::store::{InsertBatch, InsertGroup, InsertTask, Inserted, InsertedAs, Refusal, Run, Start};

/// Takes adds to the store.
#[derive(Debug)]
pub(crate) struct Adder {
    core: Arc<Core>,
    runner: Option<Arc<Runner>>,
    gate: Mutex<Gate>,
    max_batch: usize,
    at_once: usize,
}

#[derive(Debug, Default)]
struct Gate {
    waiting: Vec<Group>,
    /// Writes under way.
    writing: usize,
}

/// One call of `add_task` or `add_all`, on its way.
#[derive(Debug)]
struct Group {
    tasks: InsertGroup,
    seats: Seats,
    deadline: Instant,
    /// The last error left open whether it was stored.
    in_doubt: bool,
    /// Somebody listens for what becomes of it.
    announced: bool,
    /// Who releases what is held back of it.
    holder: Option<Arc<dyn Holder>>,
    reply: oneshot::Sender<Answer>,
}

/// The slot that each task of a group may take at once. The first is apart, since most groups are of one.
#[derive(Debug)]
struct Seats {
    first: Option<Seat>,
    rest: Vec<Option<Seat>>,
}

impl Seats {
    fn each(self) -> impl Iterator<Item = Option<Seat>> {
        iter::once(self.first).chain(self.rest)
    }
}

pub(crate) type Answer = Result<Vec<Inserted>, AddError>;

impl Adder {
    pub(crate) fn new(core: Arc<Core>, runner: Option<Arc<Runner>>) -> Arc<Self> {
        let capabilities = core.store.capabilities();
        Arc::new(Self {
            core,
            runner,
            gate: Mutex::default(),
            max_batch: capabilities.max_batch.max(1),
            at_once: capabilities.inserts_at_once.max(1),
        })
    }

    /// Sends tasks on their way, all or none. The answer comes when they are committed; not to wait for it undoes nothing.
    pub(crate) fn send(
        self: &Arc<Self>,
        tasks: impl ExactSizeIterator<Item = NewTask>,
        holder: Option<Arc<dyn Holder>>,
    ) -> Result<oneshot::Receiver<Answer>, AddError> {
        if self.core.is_closed() {
            return Err(AddError::ShutDown);
        }
        if tasks.len() > NewTask::MAX_AT_ONCE {
            let (limit, actual) = (NewTask::MAX_AT_ONCE, tasks.len());
            return Err(AddError::TooLarge { what: "tasks", limit, actual });
        }
        let holds = holder.as_ref().is_some_and(|holder| holder.holds());
        let mut inserts = Vec::with_capacity(tasks.len());
        for mut task in tasks {
            if let Some(holder) = &holder {
                task.source = holder.source();
            }
            let start = if holds && !task.eager { Start::Hold } else { Start::Wait };
            inserts.push(self.core.prepare(task, start)?);
        }
        let seats = self.seats(&mut inserts);
        let (reply, answer) = oneshot::channel();
        let deadline = in_time(self.core.settings.add_timeout);
        let announced = self.core.events.adding(inserts.iter().map(|insert| insert.task.id));
        let tasks = InsertGroup::new(inserts);
        let group = Group { tasks, seats, deadline, in_doubt: false, announced, holder, reply };
        let mut gate = self.gate.lock();
        gate.waiting.push(group);
        if gate.writing < self.at_once {
            gate.writing += 1;
            drop(gate);
            self.core.runtime.spawn(self.clone().write());
        }
        Ok(answer)
    }

    /// Takes slots for those that could start at once, the most urgent first.
    fn seats(&self, inserts: &mut [InsertTask]) -> Seats {
        if let [insert] = inserts {
            return Seats { first: self.seat(insert), rest: Vec::new() };
        }
        let mut first = None;
        let mut rest = vec![None; inserts.len().saturating_sub(1)];
        let mut by_urgency: Vec<usize> = (0..inserts.len()).collect();
        by_urgency.sort_by_key(|at| Reverse(inserts[*at].task.priority));
        for at in by_urgency {
            let seat = self.seat(&mut inserts[at]);
            match at.checked_sub(1) {
                Some(at) => rest[at] = seat,
                None => first = seat,
            }
        }
        Seats { first, rest }
    }

    /// Takes a slot for a task that could start at once, and says so to the store. A held one waits for its response.
    fn seat(&self, insert: &mut InsertTask) -> Option<Seat> {
        let runner = self.runner.as_ref().filter(|runner| runner.may_claim())?;
        let task = &insert.task;
        if task.when != When::Now || insert.start == Start::Hold {
            return None;
        }
        let known = runner.registry.get(&task.name)?;
        let seat = runner.slots.try_take(&task.queue, known.task.is_blocking())?;
        insert.start = if task.eager { Start::Lease } else { Start::LeaseIfIdle };
        Some(seat)
    }

    /// Writes what waits, and what gathers meanwhile, until nothing does.
    async fn write(self: Arc<Self>) {
        loop {
            // Whoever was answered by the last write may add again right away, and so join this one.
            tokio::task::yield_now().await;
            let mut groups = {
                let mut gate = self.gate.lock();
                if gate.waiting.is_empty() {
                    gate.writing -= 1;
                    return;
                }
                let mut tasks = 0;
                let fits = |group: &&Group| {
                    tasks += group.tasks.tasks.len();
                    tasks <= self.max_batch
                };
                let count = gate.waiting.iter().take_while(fits).count().max(1);
                if count == gate.waiting.len() {
                    mem::take(&mut gate.waiting)
                } else {
                    gate.waiting.drain(..count).collect()
                }
            };
            let mut backoff = Backoff::new();
            while !groups.is_empty() {
                match self.insert(&mut groups).await {
                    Ok(()) => break,
                    Err(error) => {
                        self.give_up_late(&mut groups, &error);
                        // Not longer than the first of them can wait, nor anybody who comes meanwhile.
                        let Some(earliest) = groups.iter().map(|group| group.deadline).min() else { break };
                        let patience = in_time(self.core.settings.add_timeout);
                        let wake_at = in_time(backoff.delay()).min(earliest).min(patience);
                        tokio::time::sleep_until(wake_at).await;
                        // Whose time ended meanwhile hears why, and not that a last try has not been answered.
                        self.give_up_late(&mut groups, &error);
                        // Those who came meanwhile have deadlines of their own.
                        groups.append(&mut self.gate.lock().waiting);
                    }
                }
            }
        }
    }

    /// One write. After an error the groups are as before, but for those whose deadline passed.
    async fn insert(self: &Arc<Self>, groups: &mut Vec<Group>) -> Result<(), StoreError> {
        let tasks =
            groups.iter_mut().map(|group| mem::replace(&mut group.tasks, InsertGroup::new(Vec::new())));
        let batch =
            Arc::new(InsertBatch::new(self.core.instance.id, self.core.settings.lease, tasks.collect()));
        let began = self.core.health.begin();
        let mut write = self.core.store.insert(batch.clone());
        let mut look_at = groups.iter().map(|group| group.deadline).min().unwrap_or_else(Instant::now);
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut write => break answer,
                () = tokio::time::sleep_until(look_at) => {
                    tell_the_late(groups, &batch);
                    let untold = groups.iter().filter(|group| !group.reply.is_closed());
                    let here = untold.map(|group| group.deadline).min();
                    let next = [here, self.refuse_the_late()].into_iter().flatten().min();
                    // Whoever comes from now on can wait that long.
                    look_at = next.unwrap_or_else(|| in_time(self.core.settings.add_timeout));
                }
            }
        };
        let answer = self.core.health.note("an insert", began, answer);
        match answer {
            Ok(answers) => {
                for ((group, tasks), answer) in mem::take(groups).into_iter().zip(&batch.groups).zip(answers)
                {
                    self.settle(group, tasks, answer);
                }
                Ok(())
            }
            Err(error) => {
                let tasks =
                    Arc::try_unwrap(batch).map_or_else(|shared| shared.groups.clone(), |batch| batch.groups);
                for (group, tasks) in groups.iter_mut().zip(tasks) {
                    group.tasks = tasks;
                    group.in_doubt |= error.kind() == StoreErrorKind::Unknown;
                }
                Err(error)
            }
        }
    }

    /// Refuses those who cannot wait longer for the write before theirs. Answers until when the first of the others can.
    fn refuse_the_late(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut gate = self.gate.lock();
        let late: Vec<Group> = gate.waiting.extract_if(.., |group| group.deadline <= now).collect();
        let next = gate.waiting.iter().map(|group| group.deadline).min();
        drop(gate);
        for group in late {
            let slow =
                StoreError::new(StoreErrorKind::Unavailable, "the store has not answered who came before");
            self.forget(group.announced, &group.tasks);
            self.free(group.seats.each());
            let _ = group.reply.send(Err(AddError::Store(slow)));
        }
        next
    }

    /// Starts what was leased, gives back the slots of what was not, and answers.
    fn settle(&self, group: Group, tasks: &InsertGroup, answer: Result<Vec<Inserted>, Refusal>) {
        let inserted = match answer {
            Ok(inserted) => inserted,
            Err(Refusal::QueueFull { queue, max_size }) => {
                self.forget(group.announced, tasks);
                self.free(group.seats.each());
                let _ = group.reply.send(Err(AddError::QueueFull { queue, max_size }));
                return;
            }
        };
        let mut holds = Vec::new();
        for ((insert, inserted), seat) in tasks.tasks.iter().zip(&inserted).zip(group.seats.each()) {
            if group.announced {
                let name = inserted.kind.is_new().then_some(&*insert.task.name);
                self.core.events.added(insert.task.id, name);
            }
            match (inserted.kind, seat, &self.runner) {
                (InsertedAs::Leased { fence }, Some(seat), Some(runner)) => {
                    runner.start_leased(&insert.task, Run::new(inserted.id, fence), seat);
                }
                (kind, seat, runner) => {
                    self.free([seat]);
                    match (kind, runner) {
                        (InsertedAs::Held { fence }, _) => holds.push(Run::new(inserted.id, fence)),
                        (InsertedAs::Pending | InsertedAs::Replaced, Some(runner)) => runner.may_have_work(),
                        _ => {}
                    }
                }
            }
        }
        holds.iter().for_each(|hold| self.core.holds.begin(*hold));
        if let (Some(holder), false) = (&group.holder, holds.is_empty()) {
            holder.held(holds);
        }
        // Nobody waits any more: the tasks are stored all the same.
        let _ = group.reply.send(Ok(inserted));
    }

    /// Answers those who cannot be served: everybody after an error that no repetition mends, else those whose time
    /// is over.
    fn give_up_late(&self, groups: &mut Vec<Group>, error: &StoreError) {
        let now = Instant::now();
        let late = groups.extract_if(.., |group| !error.is_transient() || group.deadline <= now);
        for group in late.collect::<Vec<_>>() {
            let id = first_id(&group.tasks);
            let answer = if group.in_doubt {
                AddError::Unknown { id, source: error.clone() }
            } else {
                AddError::Store(error.clone())
            };
            self.forget(group.announced, &group.tasks);
            self.free(group.seats.each());
            let _ = group.reply.send(Err(answer));
        }
    }

    /// Nothing was added of these, as far as is known.
    fn forget(&self, announced: bool, tasks: &InsertGroup) {
        if announced {
            tasks.tasks.iter().for_each(|insert| self.core.events.added(insert.task.id, None));
        }
    }

    fn free(&self, seats: impl IntoIterator<Item = Option<Seat>>) {
        let Some(runner) = &self.runner else { return };
        let mut any = false;
        for seat in seats.into_iter().flatten() {
            runner.slots.give_back(seat);
            any = true;
        }
        if any {
            // A claim may have found no room while the slot was kept for this.
            runner.may_have_work();
            self.core.runs.look_again();
        }
    }
}

/// The write goes on; those who cannot wait longer are told that nobody knows yet.
fn tell_the_late(groups: &mut [Group], batch: &InsertBatch) {
    let slow = StoreError::new(StoreErrorKind::Unknown, "the store has not answered yet");
    let now = Instant::now();
    for (group, tasks) in groups.iter_mut().zip(&batch.groups) {
        if group.deadline <= now {
            let (unheard, _) = oneshot::channel();
            let reply = mem::replace(&mut group.reply, unheard);
            let _ = reply.send(Err(AddError::Unknown { id: first_id(tasks), source: slow.clone() }));
        }
    }
}

fn first_id(group: &InsertGroup) -> TaskId {
    group.tasks.first().map_or_else(TaskId::new, |insert| insert.task.id)
}
