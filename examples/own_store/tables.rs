//! The tasks of the store, and what each call does to them. The caller holds the lock, so each call is one transaction.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use taskflow::model::{Cursor, InstanceId, RetryPolicy};
use taskflow::store::transition::{self, Decision, TaskState, instant, micros};
use taskflow::store::{
    Claim, Claimed, Claims, Finish, Finished, InsertBatch, InsertTask, Inserted, InsertedAs, Recovered,
    Renewal, Renewed, Report, RunRef, Start,
};
use taskflow::{
    Attempt, AttemptOutcome, InstanceInfo, LogLine, Page, QueueInfo, TaskFilter, TaskId, TaskRecord,
    TaskStatus,
};

#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) rows: BTreeMap<TaskId, Row>,
    pub(crate) instances: Vec<InstanceInfo>,
    pub(crate) paused: BTreeSet<String>,
    added: u64,
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) record: TaskRecord,
    pub(crate) policy: Arc<RetryPolicy>,
    /// Its place in the order of tasks with equal priority.
    age: u64,
    pub(crate) fence: u64,
    lost_runs: u32,
    /// The process that runs or holds the task, and the end of its lease in microseconds.
    pub(crate) lease: Option<(InstanceId, i64)>,
    pub(crate) lines: Vec<LogLine>,
}

/// The time of this store: microseconds since the epoch.
pub(crate) fn now() -> i64 {
    micros(SystemTime::now())
}

impl Row {
    fn is_held(&self) -> bool {
        self.record.status == TaskStatus::Pending && self.lease.is_some()
    }

    fn state(&self) -> TaskState {
        TaskState::of_record(&self.record, self.fence, self.lost_runs, self.is_held())
    }

    fn apply(&mut self, change: &transition::Change<'_>, now: i64) {
        change.write_to(&mut self.record, now);
        (self.fence, self.lost_runs) = (change.next.fence, change.next.lost_runs);
        // No rule begins a run or a hold, so a lease stays only while the task runs.
        self.lease = self.lease.filter(|_| self.record.status == TaskStatus::Running);
    }

    fn holds_key(&self) -> bool {
        matches!(self.record.status, TaskStatus::Pending | TaskStatus::Running | TaskStatus::Success)
    }

    fn is_leased_to(&self, instance: InstanceId, fence: u64) -> bool {
        self.fence == fence && self.lease.is_some_and(|(holder, _)| holder == instance)
    }

    /// When it could be claimed, if nothing else happens.
    fn due(&self) -> i64 {
        self.lease.map_or(i64::MIN, |(_, until)| until).max(micros(self.record.run_at))
    }
}

impl Tables {
    /// Asks a rule, and writes the change that it decides.
    pub(crate) fn decide<'c, A>(
        &mut self,
        id: TaskId,
        rule: impl FnOnce(Option<&TaskState>, i64) -> Decision<'c, A>,
    ) -> A {
        let (now, row) = (now(), self.rows.get_mut(&id));
        let decision = rule(row.as_ref().map(|row| row.state()).as_ref(), now);
        if let (Some(row), Some(change)) = (row, decision.change) {
            row.apply(&change, now);
            self.give_up_run_key(id);
        }
        decision.answer
    }

    /// Takes the run key from a task that waits for its first attempt again, if another waiting task has the key now.
    fn give_up_run_key(&mut self, id: TaskId) {
        let record = &self.rows[&id].record;
        let is_taken = self.waiting_with(&record.name, record.run_key.as_deref(), id).is_some();
        if is_taken && let Some(row) = self.rows.get_mut(&id).filter(|row| row.state().waits_for_first()) {
            row.record.run_key = None;
        }
    }

    /// Another task of this name and run key that waits for its first attempt.
    fn waiting_with(&self, name: &str, run_key: Option<&str>, but: TaskId) -> Option<TaskId> {
        let run_key = Some(run_key?);
        let is_same =
            |task: &TaskRecord| task.name == name && task.run_key.as_deref() == run_key && task.id != but;
        self.rows
            .values()
            .find(|row| is_same(&row.record) && row.state().waits_for_first())
            .map(|row| row.record.id)
    }

    /// Another task that holds this idempotency key.
    pub(crate) fn holder_of(&self, name: &str, key: Option<&str>, but: TaskId) -> Option<TaskId> {
        let key = Some(key?);
        let is_same =
            |task: &TaskRecord| task.name == name && task.idempotency_key.as_deref() == key && task.id != but;
        self.rows.values().find(|row| is_same(&row.record) && row.holds_key()).map(|row| row.record.id)
    }

    pub(crate) fn insert(&mut self, insert: &InsertTask, batch: &InsertBatch) -> Inserted {
        let (new, now) = (&insert.task, now());
        if let Some(row) = self.rows.get(&new.id) {
            let fence = RunRef::FIRST_FENCE;
            let kind = match row.record.status {
                TaskStatus::Running if row.is_leased_to(batch.instance, fence) => {
                    InsertedAs::Leased { fence }
                }
                TaskStatus::Pending if row.is_leased_to(batch.instance, fence) => InsertedAs::Held { fence },
                _ => InsertedAs::Pending,
            };
            return Inserted::new(new.id, kind);
        }
        if let Some(id) = self.holder_of(&new.name, new.idempotency_key.as_deref(), new.id) {
            return Inserted::new(id, InsertedAs::Duplicate);
        }
        let mut record = new.record(instant(now));
        let policy = Arc::new(new.policy.clone().into_owned());
        if let Some(id) = self.waiting_with(&new.name, new.run_key.as_deref(), new.id) {
            let row = self.rows.get_mut(&id).expect("it was just found");
            (record.id, record.created_at, record.source) = (id, row.record.created_at, row.record.source);
            record.idempotency_key = row.record.idempotency_key.take();
            (record.attempts, record.started_at) = (row.record.attempts.split_off(0), row.record.started_at);
            (row.record, row.policy) = (record, policy);
            return Inserted::new(id, InsertedAs::Replaced);
        }
        let is_due = |row: &Row| row.lease.is_none() && row.record.queue == record.queue && row.due() <= now;
        let any_is_due =
            || self.rows.values().any(|row| row.record.status == TaskStatus::Pending && is_due(row));
        let may_run = micros(record.run_at) <= now && !self.paused.contains(&record.queue);
        let runs = match insert.start {
            Start::Lease => may_run,
            Start::LeaseIfIdle => may_run && !any_is_due(),
            _ => false,
        };
        self.added += 1;
        let (id, fence, lines) = (new.id, RunRef::FIRST_FENCE, Vec::new());
        let row = Row { record, policy, age: self.added, fence, lost_runs: 0, lease: None, lines };
        self.rows.insert(id, row);
        let until = transition::later(now, batch.lease);
        if runs {
            self.start(id, batch.instance, until, now);
            return Inserted::new(id, InsertedAs::Leased { fence });
        }
        if insert.start == Start::Hold {
            self.rows.get_mut(&id).expect("just inserted").lease = Some((batch.instance, until));
            return Inserted::new(id, InsertedAs::Held { fence });
        }
        Inserted::new(id, InsertedAs::Pending)
    }

    /// Begins the next attempt of a task, under the fence that its row has.
    fn start(&mut self, id: TaskId, instance: InstanceId, until: i64, now: i64) {
        let row = self.rows.get_mut(&id).expect("the caller has found it");
        let record = &mut row.record;
        record.attempt += 1;
        let mut attempt = Attempt::new(record.attempt, instance, instant(now), AttemptOutcome::Running);
        if let Some(known) = self.instances.iter().find(|known| known.id == instance) {
            (attempt.host, attempt.pid) = (known.host.clone(), known.pid);
        }
        record.attempts.push(attempt);
        (record.status, record.started_at, record.progress) = (TaskStatus::Running, Some(instant(now)), None);
        row.lease = Some((instance, until));
    }

    pub(crate) fn claim(&mut self, claim: &Claim) -> Claims {
        let (now, mut claims) = (now(), Claims::default());
        let mut free: BTreeMap<String, usize> =
            claim.queues.iter().map(|queue| (queue.name.to_string(), queue.limit)).collect();
        free.retain(|queue, free| *free > 0 && !self.paused.contains(queue));
        let is_asked_for = |row: &&Row| {
            let task = &row.record;
            task.status == TaskStatus::Pending
                && free.contains_key(&task.queue)
                && claim.names.iter().any(|name| **name == *task.name)
        };
        let (due, later): (Vec<_>, Vec<_>) =
            self.rows.values().filter(is_asked_for).partition(|row| row.due() <= now && row.lease.is_none());
        let next_due = later.iter().map(|row| row.due()).min();
        let mut due: Vec<_> =
            due.iter().map(|row| (Reverse(row.record.priority), row.age, row.record.id)).collect();
        due.sort_unstable();
        for (_, _, id) in due {
            let free = free.get_mut(&self.rows[&id].record.queue).expect("it was asked for");
            if *free == 0 || claims.tasks.len() == claim.limit {
                continue;
            }
            // This store prefetches nothing.
            if claims.tasks.len() == claim.slots() {
                claims.needs_slot = true;
                break;
            }
            *free -= 1;
            self.rows.get_mut(&id).expect("it is there").fence += 1;
            self.start(id, claim.instance, transition::later(now, claim.lease), now);
            claims.tasks.push(self.claimed(id));
        }
        if claims.tasks.len() < claim.limit && !claims.needs_slot {
            let wait = |due: i64| Duration::from_micros(u64::try_from(due - now).unwrap_or(0));
            claims.next_due = next_due.map(wait);
        }
        claims
    }

    fn claimed(&self, id: TaskId) -> Claimed {
        let row = &self.rows[&id];
        let (task, run) = (&row.record, RunRef::new(id, row.fence));
        let (name, queue, args) = (&*task.name, &*task.queue, task.args.get());
        let mut claimed = Claimed::new(run, name.into(), queue.into(), args.into(), Arc::clone(&row.policy));
        claimed.tags.clone_from(&task.tags);
        claimed.trace.clone_from(&task.trace);
        (claimed.attempt, claimed.max_attempts) = (task.attempt, task.max_attempts);
        (claimed.scheduled_for, claimed.snoozes) = (task.scheduled_for, task.snoozes);
        let bytes: usize = row.lines.iter().map(|line| line.message.len()).sum();
        claimed.log_lines = u32::try_from(row.lines.len()).unwrap_or(u32::MAX);
        claimed.log_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        claimed
    }

    pub(crate) fn report(&mut self, report: Report) -> bool {
        let is_running =
            |row: &&mut Row| row.fence == report.run.fence && row.record.status == TaskStatus::Running;
        let Some(row) = self.rows.get_mut(&report.run.id).filter(is_running) else { return false };
        // A repeated report brings lines that are already stored.
        let stored = u32::try_from(row.lines.len()).unwrap_or(u32::MAX);
        row.lines.extend_from_slice(report.new_lines(stored));
        row.record.progress = report.progress.or(row.record.progress.take());
        true
    }

    pub(crate) fn finish(&mut self, finish: &Finish) -> Finished {
        // If the run has ended, neither the report nor the finish changes anything.
        let mut report = Report::new(finish.run, finish.progress.clone(), finish.lines.clone());
        report.lines_before = finish.lines_before;
        self.report(report);
        self.decide(finish.run.id, |task, now| transition::finish(task, finish.run.fence, &finish.kind, now))
    }

    pub(crate) fn recover(&mut self) -> Vec<Recovered> {
        let now = now();
        let lost = self.rows.values_mut().filter(|row| row.lease.is_some_and(|(_, until)| until <= now));
        let mut recovered = Vec::new();
        for row in lost.take(500) {
            let from = row.state();
            let Some(change) = transition::recover(&from, &row.policy, fastrand::f64(), now) else {
                continue;
            };
            recovered.push(change.recovered(&from, row.record.id, row.record.name.as_str().into()));
            row.apply(&change, now);
        }
        recovered.iter().for_each(|it| self.give_up_run_key(it.id));
        recovered
    }

    pub(crate) fn renew(&mut self, renewal: &Renewal) -> Renewed {
        let (now, mut renewed) = (now(), Renewed::default());
        self.instances
            .iter_mut()
            .filter(|it| it.id == renewal.instance)
            .for_each(|it| it.seen_at = instant(now));
        for run in &renewal.runs {
            match self.rows.get_mut(&run.id).filter(|row| row.is_leased_to(renewal.instance, run.fence)) {
                Some(row) => {
                    row.lease = Some((renewal.instance, transition::later(now, renewal.lease)));
                    renewed.cancel.extend(row.record.cancel_requested.then_some(*run));
                }
                None => renewed.lost.push(*run),
            }
        }
        renewed
    }

    pub(crate) fn list(&self, filter: &TaskFilter) -> Page<TaskRecord> {
        let order = filter.order;
        let is_after =
            |task: &TaskRecord| filter.after.is_none_or(|cursor| order.compare(cursor.id(), task.id).is_lt());
        let matching = self.rows.values().map(|row| &row.record);
        let matching = matching.filter(|task| is_after(task) && filter.matches_base(task));
        let mut items: Vec<TaskRecord> = matching.cloned().collect();
        items.sort_unstable_by(|a, b| order.compare(a.id, b.id));
        let more = items.len() > filter.limit;
        items.truncate(filter.limit);
        let next = items.last().filter(|_| more).map(|last| Cursor::after(last.id));
        Page::new(items, next)
    }

    pub(crate) fn queues(&self) -> Vec<QueueInfo> {
        let mut queues: BTreeMap<&str, QueueInfo> = BTreeMap::new();
        for (queue, row) in self
            .paused
            .iter()
            .map(|queue| (queue, None))
            .chain(self.rows.values().map(|row| (&row.record.queue, Some(row))))
        {
            let info = queues.entry(queue).or_insert_with(|| QueueInfo::new(queue.clone()));
            info.paused = self.paused.contains(queue);
            match row.map(|row| row.record.status) {
                Some(TaskStatus::Pending) => info.pending += 1,
                Some(TaskStatus::Running) => info.running += 1,
                Some(_) => info.finished += 1,
                None => {}
            }
        }
        queues.into_values().collect()
    }

    /// Deletes up to `limit` ended tasks that `chosen` selects.
    pub(crate) fn delete(&mut self, limit: usize, chosen: impl Fn(&TaskRecord) -> bool) -> usize {
        let ended = self.rows.values().map(|row| &row.record).filter(|task| task.status.is_final());
        let ids: Vec<TaskId> = ended.filter(|task| chosen(task)).take(limit).map(|task| task.id).collect();
        ids.iter().for_each(|id| drop(self.rows.remove(id)));
        ids.len()
    }
}
