//! Random histories, run on a store and on the model: both must give the same answers.

use std::sync::Arc;
use std::time::SystemTime;

use crate::model::{InstanceInfo, LogLevel, LogLine, TaskFilter, TaskId, TickOutcome};
use crate::store::{
    Claim, ClaimQueue, Claims, Declaration, Finish, FinishKind, Finished, Fire, FireAfter, Fired,
    HoldOutcome, InsertBatch, InsertGroup, InsertTask, Inserted, InsertedAs, RecoveredFrom, Refusal, Release,
    Renewal, Reopen, Report, RunRef, ScheduleChange, Start, Store,
};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::compare::{agree, same, same_queues, why_not};
use super::fixture::{Fixture, Stores};
use super::history::{Op, Pick, Request, Spec, history};
use super::lab::{LONG, Patience, instance as process, names};
use super::model::{Entry, Model, State, word};
use super::model_schedules::{Change, FireSpec, instant, told};

/// Runs random histories, each on a fresh store. Shortens the first one that differs from the model, and panics with it. The
/// environment variable `PROPTEST_CASES` sets the number of histories.
pub(crate) fn any_history_goes_as_the_model_says(stores: &Stores) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = stores.histories;
    }
    // In milliseconds. Without this limit, it would take long to shorten a history in which the store gets stuck.
    config.max_shrink_time = 30_000;
    let outcome = TestRunner::new(config).run(&history(), |ops| match runtime.block_on(stores.open()) {
        Some(fixture) => runtime.block_on(compare(fixture, ops)).map_err(TestCaseError::fail),
        None => Ok(()),
    });
    if let Err(difference) = outcome {
        panic!("{difference}");
    }
}

async fn compare(fixture: Fixture, ops: Vec<Op>) -> Result<(), String> {
    let mut world = World::new(&fixture.store).await;
    for (number, op) in ops.into_iter().enumerate() {
        let said = format!("operation {number}, {op:?}");
        world.perform(op).await.map_err(|difference| format!("{said}: {difference}"))?;
        agree("counts", world.store.counts().await.unwrap(), world.model.counts())
            .map_err(|difference| format!("after {said}: {difference}"))?;
    }
    world.compare_everything().await?;
    world.drain().await.map_err(|difference| format!("in the end: {difference}"))
}

pub(crate) struct World<'a> {
    pub(super) store: &'a Arc<dyn Store>,
    pub(super) model: Model,
    processes: [InstanceInfo; 2],
    /// Every run and hold there ever was.
    runs: Vec<RunRef>,
    /// Every task there ever was.
    added: Vec<InsertTask>,
    /// How far the changes of schedules have been read: the store's version, and the length of the model's log.
    heard: (u64, usize),
}

impl<'a> World<'a> {
    async fn new(store: &'a Arc<dyn Store>) -> Self {
        let processes = [process("a", 1), process("b", 2)];
        for process in &processes {
            store.join(process).await.unwrap();
        }
        Self { store, model: Model::default(), processes, runs: Vec::new(), added: Vec::new(), heard: (0, 0) }
    }

    pub(super) async fn perform(&mut self, op: Op) -> Result<(), String> {
        match op {
            Op::Insert { by, groups } => {
                let mut next = self.added.len();
                let mut insert = |spec: &Spec| {
                    next += 1;
                    spec.insert(next)
                };
                let groups = groups.iter().map(|group| group.iter().map(&mut insert).collect()).collect();
                self.insert(by, groups).await
            }
            Op::InsertAgain { by, task } => match self.added.get(task % self.added.len().max(1)).cloned() {
                // A duplicate was not stored, and a deleted task is new again: either is an ordinary insert.
                Some(task) => self.insert(by, vec![vec![task]]).await,
                None => Ok(()),
            },
            Op::Claim { by, request } => {
                let claims = self.store.claim(self.claim(by, &request)).await.unwrap();
                self.claimed(by, &request, &claims)
            }
            Op::Finish(finishes) => {
                let finishes = self.finishes(&finishes);
                let answers = self.store.finish(Arc::new(finishes.clone())).await.unwrap();
                self.finished(&finishes, answers)
            }
            Op::Turn { by, releases, finishes, request } => {
                let (releases, finishes) = (self.releases(&releases), self.finishes(&finishes));
                let claim = self.claim(by, &request);
                let answer = if releases.is_empty() {
                    let answer = self.store.turn(Arc::new(finishes.clone()), claim).await;
                    answer.map(|(finished, claims)| (Vec::new(), finished, claims))
                } else {
                    let (releases, finishes) = (Arc::new(releases.clone()), Arc::new(finishes.clone()));
                    self.store.release_and_turn(releases, finishes, claim).await
                };
                let (released, answers, claims) = answer.unwrap();
                self.released(&releases, released)?;
                self.finished(&finishes, answers)?;
                self.claimed(by, &request, &claims)
            }
            Op::Report(picks) => self.report(&picks).await,
            Op::Release(picks) => self.release(&picks).await,
            Op::Renew { by, more } => self.renew(by, &more).await,
            Op::Lose { by, by_leaving } => self.lose(by, by_leaving).await,
            Op::Cancel(tasks) => {
                let ids = self.ids(&tasks);
                let answers = self.store.cancel(ids.clone(), "on request".to_owned()).await.unwrap();
                let expected = ids.into_iter().map(|id| self.model.cancel(id, "on request")).collect();
                agree("cancel", answers, expected)
            }
            Op::CancelScheduled(key) => {
                let mut answers = self.store.cancel_by_run_key(key.to_owned()).await.unwrap();
                let mut expected = self.model.cancel_by_run_key(key);
                answers.sort();
                expected.sort();
                agree("cancel_by_run_key", answers, expected)
            }
            Op::Retry(tasks) => {
                let ids = self.ids(&tasks);
                let answers = self.store.retry(Reopen::at_once(ids.clone())).await.unwrap();
                let answers: Vec<_> = answers.into_iter().map(|answer| answer.map_err(why_not)).collect();
                let expected = ids.into_iter().map(|id| self.model.retry(id)).collect();
                agree("retry", answers, expected)
            }
            Op::Delete(tasks) => {
                let ids = self.ids(&tasks);
                agree("delete", self.store.delete(ids.clone()).await.unwrap(), self.model.delete(&ids))
            }
            Op::Pause { queue, paused } => {
                self.store.set_paused(queue.to_owned(), paused).await.unwrap();
                if paused {
                    self.model.paused.insert(queue.to_owned())
                } else {
                    self.model.paused.remove(queue)
                };
                Ok(())
            }
            Op::Fire { by, fire, task } => self.fire(by, &fire, task.as_ref()).await,
            Op::SetSchedule { schedule, change } => {
                let expected = self.model.schedules.change(schedule, &change);
                let answer = self.store.set_schedule(schedule.to_owned(), schedule_change(&change)).await;
                agree("set_schedule", answer.unwrap(), expected)
            }
            Op::AskForScheduleChanges => {
                let (version, length) = self.heard;
                let answer = self.store.schedule_changes(version).await.unwrap();
                self.heard = (answer.version, self.model.schedules.log_length());
                // The answer to a process that knows nothing yet may have removals, or may not.
                let matters =
                    |(_, definition): &(String, Option<String>)| version > 0 || definition.is_some();
                let changed = answer.changed.into_iter().map(|state| (state.name, state.definition));
                let expected = self.model.schedules.changes(length).into_iter().filter(matters);
                agree("schedule_changes", changed.filter(matters).collect::<Vec<_>>(), expected.collect())
            }
        }
    }

    async fn fire(&mut self, by: usize, fire: &FireSpec, task: Option<&Spec>) -> Result<(), String> {
        let by = self.processes[by].id;
        let insert = task.map(|spec| spec.insert(self.added.len() + 1));
        self.added.extend(insert.clone());
        let insert = insert.map(|insert| self.decided(vec![vec![insert]]).remove(0).remove(0));
        let batch = |task| Arc::new(InsertBatch::new(by, LONG, vec![InsertGroup::new(vec![task])]));
        let mut tick = Fire::new(fire.schedule.to_owned(), instant(fire.tick), insert.clone().map(batch));
        tick.definition = fire.definition.map(str::to_owned);
        tick.declared = fire.declared.map(str::to_owned);
        tick.skipped = fire.skipped;
        if let Some(before) = fire.start_after {
            tick.after = FireAfter::Start(before.map(instant));
        }
        let answer = self.store.fire(tick).await.unwrap();
        let expected = self.model.schedules.fire(fire, insert.is_some());
        let (Ok(()), Some(insert)) = (&expected, insert) else {
            return agree("fire", Some(answer), expected.err());
        };
        let group = vec![insert];
        let expected = self.model.insert(by, &group);
        let (said, outcome, id) = match answer {
            Fired::Inserted(inserted) => {
                self.begun(inserted)?;
                let outcome =
                    if inserted.kind.is_new() { TickOutcome::Added } else { TickOutcome::Duplicate };
                (Ok(vec![(inserted.id, word(inserted.kind))]), outcome, Some(inserted.id))
            }
            Fired::Refused(Refusal::QueueFull { queue, .. }) => (Err(queue), TickOutcome::Refused, None),
            answer => return Err(format!("fire: the store says {answer:?}, the model {expected:?}")),
        };
        self.model.schedules.inserted(fire, outcome, id);
        agree("fire", said, expected)
    }

    async fn insert(&mut self, by: usize, groups: Vec<Vec<InsertTask>>) -> Result<(), String> {
        self.added.extend(groups.iter().flatten().cloned());
        let groups = self.decided(groups);
        let by = self.processes[by].id;
        let batch = InsertBatch::new(by, LONG, groups.iter().cloned().map(InsertGroup::new).collect());
        let answers = self.store.insert(Arc::new(batch)).await.unwrap();
        agree("groups", answers.len(), groups.len())?;
        for (answer, group) in answers.into_iter().zip(&groups) {
            let expected = self.model.insert(by, group);
            let said = match &answer {
                Ok(tasks) => Ok(tasks.iter().map(|it| (it.id, word(it.kind))).collect()),
                Err(Refusal::QueueFull { queue, .. }) => Err(queue.clone()),
            };
            agree("insert", said, expected)?;
            answer.into_iter().flatten().try_for_each(|it| self.begun(it))?;
        }
        Ok(())
    }

    /// Turns `LeaseIfIdle` into `Wait` where the contract does not determine whether the queue is idle.
    fn decided(&self, mut groups: Vec<Vec<InsertTask>>) -> Vec<Vec<InsertTask>> {
        let tasks = || groups.iter().flatten();
        let expiring = tasks().any(|insert| insert.task.expires_at.is_some_and(|at| at <= SystemTime::now()));
        for insert in groups.iter_mut().flatten().filter(|insert| insert.start == Start::LeaseIfIdle) {
            if expiring || !self.model.knows_if_idle(&insert.task.queue) {
                insert.start = Start::Wait;
            }
        }
        groups
    }

    /// Notes the fence of a task that was leased or held as it was inserted.
    fn begun(&mut self, it: Inserted) -> Result<(), String> {
        let (InsertedAs::Leased { fence } | InsertedAs::Held { fence }) = it.kind else { return Ok(()) };
        let task = self.model.find(it.id).ok_or("a run of no task")?;
        if task.first_fence == Some(fence) {
            // The insert was repeated.
            return agree("the fence of a repeated insert", fence, task.fence);
        }
        task.first_fence = Some(fence);
        self.new_fence(RunRef::new(it.id, fence))
    }

    /// Notes a fence that the store gave out. It must be greater than all earlier ones of the task.
    fn new_fence(&mut self, run: RunRef) -> Result<(), String> {
        let task = self.model.find(run.id).ok_or("a run of no task")?;
        if run.fence <= task.fence {
            return Err(format!("{run:?} after fence {}", task.fence));
        }
        task.fence = run.fence;
        self.runs.push(run);
        Ok(())
    }

    pub(super) fn claim(&self, by: usize, request: &Request) -> Claim {
        let queues = request.queues.iter().map(|(queue, free, prefetch)| {
            let mut asked = ClaimQueue::new(Arc::from(*queue), *free);
            (asked.prefetch, asked.shared) = (*prefetch, request.limits_of(queue));
            asked
        });
        let (by, names) = (self.processes[by].id, names(&request.names));
        let mut claim = Claim::of(by, LONG, names, queues.collect(), request.limit);
        claim.prefetch = request.prefetch;
        claim
    }

    pub(super) fn claimed(&mut self, by: usize, request: &Request, claims: &Claims) -> Result<(), String> {
        let by = self.processes[by].id;
        let expected = self.model.claim(by, request);
        let claimed = claims.tasks.iter().map(|task| task.run.id).collect();
        agree("claim", (claimed, claims.needs_slot), expected)?;
        for task in &claims.tasks {
            self.new_fence(task.run)?;
            let entry = self.model.find(task.run.id).expect("just claimed");
            agree("attempt", (task.attempt, task.max_attempts), (entry.attempt, entry.max_attempts))?;
            agree("arguments", &task.args, entry.new.args.as_ref().unwrap())?;
            agree("policy", &*task.policy, &*entry.new.policy)?;
            agree("lines so far", task.log_lines as usize, entry.lines.len())?;
            agree("it expires", task.expires_in.is_some(), entry.new.expires_at.is_some())?;
        }
        if claims.tasks.len() == request.limit || claims.needs_slot {
            return Ok(());
        }
        let taken = |queue: &str| claims.tasks.iter().filter(|task| &*task.queue == queue).count();
        let expected = self.model.next_due(request, taken);
        match expected.allows(claims.next_due) {
            true => Ok(()),
            false => Err(format!("next due: the store says {:?}, the model {expected:?}", claims.next_due)),
        }
    }

    fn pick(&self, pick: &Pick) -> RunRef {
        let alive = || self.model.tasks.iter().filter(|task| task.holder().is_some()).map(Entry::run);
        let runs: Vec<RunRef> = if pick.alive { alive().collect() } else { self.runs.clone() };
        match runs.get(pick.number % runs.len().max(1)) {
            Some(run) => RunRef::new(run.id, run.fence + pick.wrong_by),
            None => RunRef::new(TaskId::new(), 1),
        }
    }

    fn finishes(&self, finishes: &[(Pick, FinishKind)]) -> Vec<Finish> {
        finishes.iter().map(|(pick, kind)| Finish::new(self.pick(pick), kind.clone())).collect()
    }

    pub(super) fn finished(&mut self, finishes: &[Finish], answers: Vec<Finished>) -> Result<(), String> {
        let expected = finishes.iter().map(|finish| self.model.finish(finish.run, &finish.kind)).collect();
        agree("finish", answers, expected)
    }

    async fn report(&mut self, picks: &[Pick]) -> Result<(), String> {
        let runs: Vec<RunRef> = picks.iter().map(|pick| self.pick(pick)).collect();
        let message = |n: usize| format!("line {n}");
        let line = |n: usize| LogLine::new(SystemTime::now(), LogLevel::Info, message(n), 1);
        let reports = runs.iter().enumerate().map(|(n, run)| Report::new(*run, None, vec![line(n)]));
        let answers = self.store.report(Arc::new(reports.collect())).await.unwrap();
        let expected = runs.iter().enumerate().map(|(n, run)| self.model.report(*run, &message(n)));
        agree("report", answers, expected.collect())
    }

    async fn release(&mut self, picks: &[(Pick, bool)]) -> Result<(), String> {
        let releases = self.releases(picks);
        let answers = self.store.release(Arc::new(releases.clone())).await.unwrap();
        self.released(&releases, answers)
    }

    fn releases(&self, picks: &[(Pick, bool)]) -> Vec<Release> {
        let cancel = || HoldOutcome::Cancel { reason: "released".to_owned() };
        let release = |(pick, run): &(Pick, bool)| {
            Release::new(self.pick(pick), if *run { HoldOutcome::Run } else { cancel() })
        };
        picks.iter().map(release).collect()
    }

    fn released(&mut self, releases: &[Release], answers: Vec<bool>) -> Result<(), String> {
        let expected = releases.iter().map(|it| self.model.release(it.hold, &it.outcome)).collect();
        agree("release", answers, expected)
    }

    /// The runs and holds of a process.
    fn leased_to(&self, by: usize) -> Vec<RunRef> {
        let by = Some(self.processes[by].id);
        self.model.tasks.iter().filter(|task| task.holder() == by).map(Entry::run).collect()
    }

    async fn renew(&mut self, by: usize, more: &[Pick]) -> Result<(), String> {
        let own = self.leased_to(by);
        let mut asked = own.clone();
        asked.extend(more.iter().map(|pick| self.pick(pick)));
        asked.sort_by_key(|run| (run.id, run.fence));
        asked.dedup();
        let renewal = Renewal::new(self.processes[by].id, LONG, asked.clone());
        let mut answer = self.store.renew(renewal).await.unwrap();
        answer.lost.sort_by_key(|run| (run.id, run.fence));
        answer.cancel.sort_by_key(|run| (run.id, run.fence));
        let lost: Vec<RunRef> = asked.iter().filter(|run| !own.contains(run)).copied().collect();
        agree("renew, lost", answer.lost, lost)?;
        agree("renew, to stop", answer.cancel, self.asked_to_stop(by))
    }

    fn asked_to_stop(&self, by: usize) -> Vec<RunRef> {
        let stopping = State::Running { by: self.processes[by].id, stop: true };
        let mut runs: Vec<RunRef> =
            self.model.tasks.iter().filter(|task| task.state == stopping).map(Entry::run).collect();
        runs.sort_by_key(|run| (run.id, run.fence));
        runs
    }

    /// Lets a process lose all its runs and holds, and waits until their tasks have been recovered.
    async fn lose(&mut self, by: usize, by_leaving: bool) -> Result<(), String> {
        let left = self.leased_to(by);
        let id = self.processes[by].id;
        if by_leaving {
            self.store.leave(id).await.unwrap();
            self.processes[by] = process("another", 3);
            self.store.join(&self.processes[by]).await.unwrap();
        } else {
            let renewal = Renewal::new(id, std::time::Duration::ZERO, left.clone());
            agree("lost before", self.store.renew(renewal).await.unwrap().lost, Vec::new())?;
        }
        self.recover(left, 1 - by).await
    }

    /// Waits until the tasks of `left` have been recovered, and all expired tasks are cancelled.
    pub(super) async fn recover(&mut self, mut left: Vec<RunRef>, by: usize) -> Result<(), String> {
        let patience = Patience::new("the recovery of what a process left");
        loop {
            let recovered = self.store.recover(self.processes[by].id).await.unwrap();
            for it in &recovered {
                let expected = if it.from == RecoveredFrom::Expiry {
                    self.model.expire(it.id).ok_or(format!("{it:?} had not expired"))?
                } else {
                    let known = left.iter().position(|run| run.id == it.id);
                    left.swap_remove(known.ok_or(format!("{it:?} was not lost"))?);
                    let was_held =
                        self.model.find(it.id).is_some_and(|task| matches!(task.state, State::Held(_)));
                    agree("recovered from a hold", it.from == RecoveredFrom::Hold, was_held)?;
                    self.model.lose(it.id)
                };
                agree("recovered as", it.status, expected)?;
            }
            match (recovered.is_empty(), left.is_empty()) {
                (true, true) => return agree("expired and not cancelled", self.model.expired(), Vec::new()),
                (true, false) => patience.wait().await,
                (false, _) => {}
            }
        }
    }

    fn ids(&self, tasks: &[usize]) -> Vec<TaskId> {
        let id = |n: &usize| self.added.get(n % self.added.len().max(1)).map(|added| added.task.id);
        tasks.iter().map(|n| id(n).unwrap_or_else(TaskId::new)).collect()
    }

    async fn compare_everything(&self) -> Result<(), String> {
        let page = self.store.list(TaskFilter::all().limit(TaskFilter::MAX_LIMIT)).await.unwrap();
        let mut expected: Vec<&Entry> = self.model.tasks.iter().collect();
        expected.sort_by_key(|task| std::cmp::Reverse(task.new.id));
        let ids: Vec<TaskId> = expected.iter().map(|task| task.new.id).collect();
        agree("list", page.items.iter().map(|task| task.id).collect(), ids)?;
        for (record, entry) in page.items.iter().zip(expected) {
            same(record, entry).map_err(|difference| format!("task {}: {difference}", record.id))?;
            let lines = self.store.logs(record.id).await.unwrap().ok_or("no logs")?;
            let lines: Vec<String> = lines.into_iter().map(|line| line.message).collect();
            agree("logs", &lines, &entry.lines)?;
        }
        for (by, process) in self.processes.iter().enumerate() {
            let mut runs = self.store.asked_to_stop(process.id).await.unwrap();
            runs.sort_by_key(|run| (run.id, run.fence));
            agree("asked to stop", runs, self.asked_to_stop(by))?;
        }
        let schedules = self.store.schedules().await.unwrap();
        let schedules = schedules.iter().map(|state| (state.name.clone(), told(state)));
        let expected = self.model.schedules.known.iter().map(|(name, it)| ((*name).to_owned(), it.clone()));
        agree("schedules", schedules.collect::<Vec<_>>(), expected.collect())?;
        same_queues(&self.store.queues().await.unwrap(), &self.model)
    }
}

fn schedule_change(change: &Change) -> ScheduleChange {
    match *change {
        Change::Pause(paused) => ScheduleChange::Paused(paused),
        Change::Define { definition, from } => {
            ScheduleChange::Defined { definition: definition.to_owned(), from: instant(from) }
        }
        Change::Remove => ScheduleChange::Removed,
        Change::Declare { timing, since, instead_of } => ScheduleChange::Declared {
            declaration: Declaration::new(timing.to_owned(), instant(since)),
            instead_of: instead_of.map(instant),
        },
        Change::Undeclare { since } => ScheduleChange::Undeclared { since: instant(since) },
    }
}
