//! The model of a store: a list of tasks, which each operation searches from start to end. It shares no code with any
//! store, and has its own implementation of the rules for tasks.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    AttemptOutcome, CancelOutcome, Counts, InstanceId, NewTask, RetryPolicy, TaskId, TaskStatus, When,
};
use crate::store::{FinishKind, Finished, HoldOutcome, InsertTask, InsertedAs, RunRef, Start};

use super::history::Request;
use super::model_schedules::Schedules;

/// A task as it should be. `due` replaces `run_at`: a task is due, or so far in the future that no test sees it start.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) new: NewTask,
    pub(crate) state: State,
    pub(crate) due: bool,
    pub(crate) fence: u64,
    /// The fence it was inserted with, if it was leased or held from the start.
    pub(crate) first_fence: Option<u64>,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) lost: u32,
    /// Whether it ever ran.
    started: bool,
    /// The runs that ended: attempt number, process and outcome.
    pub(crate) past: Vec<(u32, InstanceId, AttemptOutcome)>,
    /// What its error should contain now, where that is specified.
    pub(crate) error: Option<&'static str>,
    pub(crate) lines: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum State {
    Pending,
    Held(InstanceId),
    Running { by: InstanceId, stop: bool },
    Ended(TaskStatus),
}

impl Entry {
    fn of(new: NewTask) -> Self {
        Self {
            state: State::Pending,
            due: new.when == When::Now,
            fence: 0,
            first_fence: None,
            attempt: 0,
            max_attempts: new.policy.max_attempts(),
            lost: 0,
            started: false,
            past: Vec::new(),
            error: None,
            lines: Vec::new(),
            new,
        }
    }

    pub(crate) fn status(&self) -> TaskStatus {
        match self.state {
            State::Pending | State::Held(_) => TaskStatus::Pending,
            State::Running { .. } => TaskStatus::Running,
            State::Ended(status) => status,
        }
    }

    pub(crate) fn holder(&self) -> Option<InstanceId> {
        match self.state {
            State::Held(by) | State::Running { by, .. } => Some(by),
            _ => None,
        }
    }

    fn begun_as(&self) -> &'static str {
        if let State::Held(_) = self.state { "held" } else { "leased" }
    }

    pub(crate) fn run(&self) -> RunRef {
        RunRef::new(self.new.id, self.fence)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state == State::Pending && self.due && !self.has_expired()
    }

    fn waits_for_first(&self) -> bool {
        self.status() == TaskStatus::Pending && self.attempt == 0
    }

    fn is(&self, name: &str) -> bool {
        self.new.name == name
    }

    /// Whether a lost run of it would be repeated, and its last run was not lost.
    fn may_prefetch(&self) -> bool {
        let policy = &self.new.policy;
        let is_last = self.attempt + 1 >= self.max_attempts;
        self.lost == 0 && policy.max_lost_runs >= 2 && (policy.requeue_on_interrupt || !is_last)
    }

    fn start(&mut self, by: InstanceId) {
        self.attempt += 1;
        self.started = true;
        self.state = State::Running { by, stop: false };
    }

    pub(crate) fn end(&mut self, status: TaskStatus, error: Option<&'static str>) {
        self.state = State::Ended(status);
        self.error = error;
    }

    fn wait(&mut self, due: bool) {
        self.state = State::Pending;
        self.due = due;
        self.error = None;
    }
}

/// `Pending`, `Leased` and so on, whatever the fence.
pub(crate) fn word(kind: InsertedAs) -> &'static str {
    match kind {
        InsertedAs::Pending => "pending",
        InsertedAs::Leased { .. } => "leased",
        InsertedAs::Held { .. } => "held",
        InsertedAs::Duplicate => "duplicate",
        InsertedAs::Replaced => "replaced",
    }
}

/// For each task of a group, the id of the stored task and how it was inserted; or the queue that is full.
pub(crate) type Group = Result<Vec<(TaskId, &'static str)>, String>;

/// What the model remembers of claims.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// How many tasks of each queue were started by claims with a rate limit.
    pub(crate) starts: BTreeMap<&'static str, usize>,
    /// Queues for which a claim had a key limit, until a later claim has none.
    pub(crate) limits_keys: BTreeSet<&'static str>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// In the order in which they were first inserted.
    pub(crate) tasks: Vec<Entry>,
    pub(crate) paused: BTreeSet<String>,
    pub(crate) schedules: Schedules,
    pub(crate) memory: Memory,
}

impl Model {
    pub(crate) fn find(&mut self, id: TaskId) -> Option<&mut Entry> {
        self.tasks.iter_mut().find(|task| task.new.id == id)
    }

    /// The task of a run that is still alive.
    fn running(&mut self, run: RunRef) -> Option<&mut Entry> {
        self.find(run.id)
            .filter(|task| task.fence == run.fence && matches!(task.state, State::Running { .. }))
    }

    pub(crate) fn insert(&mut self, by: InstanceId, group: &[InsertTask]) -> Group {
        let before = self.tasks.clone();
        let answer = group.iter().map(|task| self.insert_one(by, task)).collect();
        if Group::is_err(&answer) {
            self.tasks = before;
        }
        answer
    }

    fn insert_one(&mut self, by: InstanceId, insert: &InsertTask) -> Result<(TaskId, &'static str), String> {
        let new = &insert.task;
        if let Some(there) = self.find(new.id) {
            // The answer is the same as the first time, as long as that run or hold is alive.
            let still = there.holder() == Some(by) && there.first_fence == Some(there.fence);
            return Ok((new.id, if still { there.begun_as() } else { "pending" }));
        }
        let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
        let mut of_name = self.tasks.iter_mut().filter(|task| task.is(&new.name));
        if let Some(holder) = of_name
            .find(|task| task.status().holds_key() && same(&task.new.idempotency_key, &new.idempotency_key))
        {
            return Ok((holder.new.id, "duplicate"));
        }
        let mut of_name = self.tasks.iter_mut().filter(|task| task.is(&new.name));
        if let Some(waiting) =
            of_name.find(|task| task.waits_for_first() && same(&task.new.run_key, &new.run_key))
        {
            let old = waiting.new.clone();
            waiting.new = NewTask::clone(new);
            waiting.new.id = old.id;
            waiting.new.idempotency_key = old.idempotency_key;
            waiting.new.source = old.source;
            waiting.max_attempts = new.policy.max_attempts();
            waiting.due = new.when == When::Now;
            return Ok((old.id, "replaced"));
        }
        let of_queue = || self.tasks.iter().filter(|task| task.new.queue == new.queue);
        let waiting = of_queue().filter(|task| task.waits_for_first()).count();
        if insert.max_size.is_some_and(|max_size| waiting >= max_size) {
            return Err(new.queue.to_string());
        }
        let idle = !of_queue().any(Entry::is_ready);
        let mut entry = Entry::of(new.clone());
        let may_start = entry.due && !entry.has_expired() && !self.paused.contains(&*new.queue);
        let kind = match insert.start {
            Start::Hold => {
                entry.state = State::Held(by);
                "held"
            }
            Start::Lease if may_start => {
                entry.start(by);
                "leased"
            }
            Start::LeaseIfIdle if may_start && idle => {
                entry.start(by);
                "leased"
            }
            _ => "pending",
        };
        self.tasks.push(entry);
        Ok((new.id, kind))
    }

    /// The claimed tasks, and whether the next one may not be prefetched.
    pub(crate) fn claim(&mut self, by: InstanceId, request: &Request) -> (Vec<TaskId>, bool) {
        let mut rooms = self.rooms(request);
        let slots = request.limit - request.prefetch;
        let mut ready: Vec<usize> = (0..self.tasks.len()).filter(|n| self.tasks[*n].is_ready()).collect();
        ready.sort_by_key(|n| (std::cmp::Reverse(self.tasks[*n].new.priority), *n));
        let (mut claimed, mut needs_slot) = (Vec::new(), false);
        for n in ready {
            let task = &mut self.tasks[n];
            let Some(room) = rooms.iter_mut().find(|room| room.queue == task.new.queue) else { continue };
            let known = request.names.iter().any(|name| task.is(name));
            if known && claimed.len() < request.limit && room.admits(task) {
                if claimed.len() >= slots && !(room.prefetch && task.may_prefetch()) {
                    needs_slot = true;
                    break;
                }
                room.take(task);
                task.start(by);
                claimed.push(task.new.id);
            }
        }
        self.remember(&rooms, request);
        (claimed, needs_slot)
    }

    pub(crate) fn finish(&mut self, run: RunRef, kind: &FinishKind) -> Finished {
        let Some(task) = self.running(run) else {
            let is_over = |task: &&mut Entry| task.started && task.holder().is_none();
            let repeated = self.find(run.id).filter(|task| task.fence == run.fence).filter(is_over);
            return repeated.map_or(Finished::Stale, |task| Finished::Repeated(task.status()));
        };
        let State::Running { by, stop } = task.state else { unreachable!() };
        task.lost = 0;
        let number = task.attempt;
        let again = match kind {
            FinishKind::Success { .. } => {
                task.past.push((number, by, AttemptOutcome::Success));
                task.end(TaskStatus::Success, None);
                None
            }
            FinishKind::End { status, outcome, .. } => {
                task.past.push((number, by, *outcome));
                task.end(*status, Some("the end"));
                None
            }
            FinishKind::Retry { delay, outcome, .. } => {
                task.past.push((number, by, *outcome));
                Some(delay)
            }
            FinishKind::GiveBack { delay, outcome } => {
                task.past.extend(outcome.map(|outcome| (number, by, outcome)));
                task.attempt -= 1;
                Some(delay)
            }
        };
        if let Some(delay) = again {
            if stop { task.end(TaskStatus::Cancelled, None) } else { task.wait(delay.is_zero()) }
        }
        let (id, status) = (task.new.id, task.status());
        self.give_up_run_key(id);
        Finished::Applied(status)
    }

    /// A task that waits for its first attempt again gives up its run key if another task has taken it meanwhile.
    fn give_up_run_key(&mut self, id: TaskId) {
        let Some(task) = self.find(id).map(|task| task.clone()) else { return };
        let rival = |other: &&Entry| {
            other.new.id != id
                && other.is(&task.new.name)
                && other.waits_for_first()
                && other.new.run_key == task.new.run_key
        };
        if task.waits_for_first()
            && task.new.run_key.is_some()
            && self.tasks.iter().any(|other| rival(&other))
        {
            self.find(id).expect("it is there").new.run_key = None;
        }
    }

    pub(crate) fn report(&mut self, run: RunRef, line: &str) -> bool {
        let Some(task) = self.running(run) else { return false };
        task.lines.push(line.to_owned());
        true
    }

    pub(crate) fn release(&mut self, hold: RunRef, outcome: &HoldOutcome) -> bool {
        let Some(task) = self.find(hold.id).filter(|task| task.fence == hold.fence) else { return false };
        match (task.state, outcome) {
            (State::Held(_), _) => {}
            // The release is repeated.
            (State::Pending, HoldOutcome::Run) => return true,
            (State::Ended(TaskStatus::Cancelled), HoldOutcome::Cancel { .. }) => return true,
            _ => return false,
        }
        match outcome {
            HoldOutcome::Run => task.state = State::Pending,
            _ => task.end(TaskStatus::Cancelled, Some("released")),
        }
        true
    }

    /// Ends a run or hold whose lease ended.
    pub(crate) fn lose(&mut self, id: TaskId) -> TaskStatus {
        let task = self.find(id).expect("it was leased");
        let State::Running { by, stop } = task.state else {
            task.state = State::Pending;
            return TaskStatus::Pending;
        };
        let RetryPolicy { requeue_on_interrupt, max_lost_runs, delay, .. } = *task.new.policy;
        task.past.push((task.attempt, by, AttemptOutcome::Lost));
        task.lost += 1;
        task.fence += 1;
        let again = requeue_on_interrupt || task.attempt < task.max_attempts;
        match (stop, again) {
            (true, _) => task.end(TaskStatus::Cancelled, None),
            (false, false) => task.end(TaskStatus::Interrupted, Some("worker lost")),
            (false, true) if task.lost >= max_lost_runs => task.end(TaskStatus::Failed, Some("poison")),
            (false, true) if requeue_on_interrupt => {
                task.attempt -= 1;
                task.wait(true);
            }
            (false, true) => task.wait(delay.is_zero()),
        }
        let status = task.status();
        self.give_up_run_key(id);
        status
    }

    pub(crate) fn cancel(&mut self, id: TaskId, reason: &'static str) -> CancelOutcome {
        let Some(task) = self.find(id) else { return CancelOutcome::NotFound };
        match &mut task.state {
            State::Pending | State::Held(_) => {
                task.end(TaskStatus::Cancelled, Some(reason));
                CancelOutcome::Cancelled
            }
            State::Running { stop, .. } => {
                *stop = true;
                CancelOutcome::Requested
            }
            State::Ended(_) => CancelOutcome::AlreadyFinished,
        }
    }

    pub(crate) fn cancel_by_run_key(&mut self, run_key: &str) -> Vec<TaskId> {
        let mut cancelled = Vec::new();
        for task in &mut self.tasks {
            if task.waits_for_first() && task.new.run_key.as_deref() == Some(run_key) {
                task.end(TaskStatus::Cancelled, None);
                cancelled.push(task.new.id);
            }
        }
        cancelled
    }

    /// The error is the reason for the refusal, in the words of `why_not`.
    pub(crate) fn retry(&mut self, id: TaskId) -> Result<(), String> {
        let Some(task) = self.find(id).map(|task| task.clone()) else { return Err("not found".to_owned()) };
        if !task.status().is_final() || task.status() == TaskStatus::Success {
            return Err(format!("is {}", task.status()));
        }
        let holds = |other: &&Entry| other.is(&task.new.name) && other.status().holds_key();
        let key = &task.new.idempotency_key;
        let rival =
            self.tasks.iter().filter(holds).find(|other| key.is_some() && other.new.idempotency_key == *key);
        if let Some(rival) = rival {
            return Err(format!("key taken by {}", rival.new.id));
        }
        let task = self.find(id).expect("it is there");
        task.wait(true);
        if task.has_expired() {
            task.new.expires_at = None;
        }
        task.max_attempts = task.attempt + task.new.policy.max_attempts();
        task.lost = 0;
        self.give_up_run_key(id);
        Ok(())
    }

    pub(crate) fn delete(&mut self, ids: &[TaskId]) -> usize {
        let before = self.tasks.len();
        self.tasks.retain(|task| !(ids.contains(&task.new.id) && task.status().is_final()));
        before - self.tasks.len()
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for task in &self.tasks {
            *counts.get_mut(task.status()) += 1;
        }
        counts
    }
}
