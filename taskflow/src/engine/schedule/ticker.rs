//! The loop that runs all schedules of a process: the declared ones from its start, and stored ones as they are added,
//! changed and removed.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::Plan;
use super::agenda::Agenda;
use super::fire::{Progress, Schedule, Shared};
use crate::engine::store_backoff::{Backoff, jittered};
use crate::engine::worker::Worker;
use crate::model::StoreError;
use crate::seam::{Instant, Seam};
use crate::store::{ScheduleChanges, ScheduleState};
use crate::task::Descriptor;

/// How often the clock is checked, in case it was set.
const CLOCK_CHECK: Duration = Duration::from_secs(10);

/// How often the store is asked for changed schedules.
const STORE_POLL: Duration = Duration::from_secs(1);

/// The most schedules that call the store at once. The others wait their turn, so that they do not hold up adds in the store.
const AT_ONCE: usize = 16;

/// A clock that goes back by no more than this was corrected, not set back.
const SET_BACK: Duration = Duration::from_millis(500);

/// Runs schedules until the process stops.
pub(crate) async fn keep_ticking(worker: Arc<Worker>, declared: Vec<&'static Descriptor>) {
    let over = worker.core.over.clone();
    let mut ticker = Ticker::new(worker);
    ticker.declare(declared);
    tokio::select! {
        biased;
        () = over.cancelled() => {}
        () = ticker.run() => {}
    }
}

struct Ticker {
    shared: Arc<Shared>,
    entries: HashMap<Arc<str>, Entry>,
    agenda: Agenda,
    /// The due schedules, with their number and the time at which they were found due.
    due: VecDeque<(Arc<str>, u64, SystemTime)>,
    jobs: JoinSet<Done>,
    /// The latest time the clock has shown.
    latest: SystemTime,
    /// Numbers the entries, so that the outcome of a job is ignored if its schedule was replaced meanwhile.
    next_number: u64,
    /// The version of the stored schedules up to which their changes are known here.
    version: u64,
    /// When to ask the store for changes; `None` while a request is in flight.
    ask_at: Option<Instant>,
}

/// A schedule that runs in this process.
struct Entry {
    schedule: Schedule,
    number: u64,
    stage: Stage,
    /// The tick after which the schedule continues.
    last: SystemTime,
    /// How far this clock is ahead of the store's, if that delayed a tick.
    ahead: Duration,
    backoff: Backoff,
    /// Its time on the agenda.
    at: Option<SystemTime>,
}

/// The next thing to do for a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    StartUp,
    Begin,
    Tick,
}

/// The outcome of a job.
enum Done {
    Asked(Result<ScheduleChanges, StoreError>),
    Schedule { name: Arc<str>, number: u64, last: SystemTime, outcome: Outcome },
}

enum Outcome {
    /// The schedule has reached this stage.
    Reached(Stage),
    Ticked(Progress),
    Failed,
}

impl Ticker {
    fn new(worker: Arc<Worker>) -> Self {
        let ask_at = Some(worker.core.seam.instant());
        Self {
            shared: Arc::new(Shared::new(worker)),
            entries: HashMap::new(),
            agenda: Agenda::default(),
            due: VecDeque::new(),
            jobs: JoinSet::new(),
            latest: SystemTime::UNIX_EPOCH,
            next_number: 0,
            version: 0,
            ask_at,
        }
    }

    /// Adds the schedules that this program declares.
    fn declare(&mut self, declared: Vec<&'static Descriptor>) {
        let now = self.seam().now();
        for task in declared {
            let Some(spec) = task.schedule() else { continue };
            match Plan::of(task, spec) {
                Ok(plan) => {
                    let stage = if plan.run_on_startup { Stage::StartUp } else { Stage::Begin };
                    self.insert(plan, stage, now);
                    self.plan_next(&Arc::from(task.config().name), now);
                }
                Err(error) => {
                    let schedule = task.config().name;
                    tracing::error!(schedule, error, "this schedule cannot tick on this machine");
                }
            }
        }
    }

    fn seam(&self) -> &Seam {
        &self.shared.worker.core.seam
    }

    async fn run(&mut self) {
        let seam = self.seam().clone();
        loop {
            let now = self.seam().now();
            self.check_clock(now);
            while let Some(name) = self.agenda.pop_due(now) {
                if let Some(entry) = self.entries.get_mut(&name) {
                    entry.at = None;
                    self.due.push_back((name, entry.number, now));
                }
            }
            if self.shared.worker.is_stopping() {
                return;
            }
            self.start_jobs();
            let next = self.agenda.next().and_then(|at| at.duration_since(now).ok());
            let next = next.map(|next| seam.in_time(next));
            let check_at = seam.instant() + CLOCK_CHECK;
            let look_at = self.ask_at.map_or(check_at, |at| at.min(check_at));
            tokio::select! {
                biased;
                Some(done) = self.jobs.join_next() => {
                    match done {
                        Ok(done) => self.apply(done).await,
                        // Without an outcome the schedule would never be planned again. So the panic is passed on, and the
                        // supervision restarts the ticker.
                        Err(error) => {
                            if let Ok(panic) = error.try_into_panic() {
                                std::panic::resume_unwind(panic);
                            }
                        }
                    }
                }
                () = seam.sleep_or_pause(next, look_at) => {}
            }
        }
    }

    fn start_jobs(&mut self) {
        let (seam, runtime) = (self.seam().clone(), self.shared.worker.core.runtime.clone());
        if self.ask_at.is_some_and(|at| at <= self.seam().instant()) {
            self.ask_at = None;
            let (shared, since) = (self.shared.clone(), self.version);
            let ask = async move {
                let core = &shared.worker.core;
                let asked = core.read("a read of the schedules", core.store.schedule_changes(since));
                Done::Asked(no_panic(asked).await)
            };
            seam.spawn_in(&mut self.jobs, &runtime, ask);
        }
        while self.jobs.len() < AT_ONCE
            && let Some((name, number, now)) = self.due.pop_front()
        {
            let Some(entry) = self.entries.get(&name).filter(|entry| entry.number == number) else {
                continue;
            };
            let (schedule, stage, ahead) = (entry.schedule.clone(), entry.stage, entry.ahead);
            let mut last = entry.last;
            let job = async move {
                let health = &schedule.shared.worker.core.health;
                let began = health.begin();
                let outcome = no_panic(work(&schedule, stage, &mut last, now, ahead)).await;
                let outcome = health.note_read("a tick", began, false, outcome);
                Done::Schedule { name, number, last, outcome: outcome.unwrap_or(Outcome::Failed) }
            };
            seam.spawn_in(&mut self.jobs, &runtime, job);
        }
    }

    async fn apply(&mut self, done: Done) {
        match done {
            Done::Asked(Ok(changes)) => self.learn(changes).await,
            Done::Asked(Err(_)) => self.ask_at = Some(self.seam().instant() + jittered(STORE_POLL)),
            Done::Schedule { name, number, last, outcome } => {
                let now = self.seam().now();
                let Some(entry) = self.entries.get_mut(&name).filter(|entry| entry.number == number) else {
                    return;
                };
                entry.last = last;
                let wait = entry.apply(&outcome, now);
                self.plan_next(&name, now + wait);
            }
        }
    }

    /// Applies the changes from the store.
    async fn learn(&mut self, changes: ScheduleChanges) {
        let now = self.seam().now();
        if changes.version < self.version {
            tracing::warn!("the store was restored to an earlier state: reading its schedules again");
            self.version = 0;
            let stored: Vec<Arc<str>> = self
                .entries
                .iter()
                .filter(|(_, entry)| entry.is_stored())
                .map(|(name, _)| name.clone())
                .collect();
            stored.iter().for_each(|name| self.remove(name));
            self.ask_at = Some(self.seam().instant());
            return;
        }
        self.version = changes.version;
        self.ask_at = Some(self.seam().instant() + if changes.more { Duration::ZERO } else { STORE_POLL });
        for (n, state) in changes.changed.iter().enumerate() {
            self.learn_one(state, now);
            if n % 50 == 49 {
                // Reading a thousand definitions takes a while, and other tasks need this thread.
                self.seam().yield_now().await;
            }
        }
    }

    fn learn_one(&mut self, state: &ScheduleState, now: SystemTime) {
        let known = self.entries.get(&*state.name);
        // A schedule that the program declares takes precedence over a stored one of the same name.
        if known.is_some_and(|entry| !entry.is_stored()) {
            return;
        }
        let name: Arc<str> = Arc::from(&*state.name);
        let Some(definition) = &state.definition else { return self.remove(&name) };
        if known.is_some_and(|entry| entry.schedule.plan.definition.as_ref() == Some(definition)) {
            return;
        }
        self.remove(&name);
        match Plan::stored(state.name.clone(), definition) {
            Ok(plan) => {
                let entry = self.insert(plan, Stage::Tick, now);
                entry.last = entry.schedule.last_believed(state, now);
                self.plan_next(&name, now);
            }
            Err(error) => {
                let schedule = &state.name;
                tracing::error!(schedule, error, "this stored schedule cannot tick in this process");
            }
        }
    }

    fn insert(&mut self, plan: Plan, stage: Stage, now: SystemTime) -> &mut Entry {
        self.next_number += 1;
        let name: Arc<str> = Arc::from(&*plan.name);
        let entry = Entry {
            schedule: Schedule { shared: self.shared.clone(), plan: Arc::new(plan) },
            number: self.next_number,
            stage,
            last: now,
            ahead: Duration::ZERO,
            backoff: Backoff::new(),
            at: None,
        };
        self.entries.entry(name).insert_entry(entry).into_mut()
    }

    fn remove(&mut self, name: &Arc<str>) {
        if let Some(entry) = self.entries.remove(name)
            && let Some(at) = entry.at
        {
            self.agenda.remove(at, name);
        }
    }

    /// Puts a schedule on the agenda for its next tick, but not before `earliest`.
    fn plan_next(&mut self, name: &Arc<str>, earliest: SystemTime) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let next = match entry.stage {
            Stage::Tick => entry.schedule.plan.ticks.after(entry.last).map(|next| next + entry.ahead),
            Stage::StartUp | Stage::Begin => Some(earliest),
        };
        if let Some(before) = entry.at {
            self.agenda.remove(before, name);
        }
        // A schedule without a next tick has had its last one.
        entry.at = next.map(|next| next.max(earliest));
        if let Some(at) = entry.at {
            self.agenda.add(at, name.clone());
        }
    }

    /// Checks whether the clock was set back. A schedule whose last tick then lies too far in the future continues from
    /// now.
    fn check_clock(&mut self, now: SystemTime) {
        let is_set_back = self.latest.duration_since(now).is_ok_and(|back| back > SET_BACK);
        self.latest = if is_set_back { now } else { self.latest.max(now) };
        if !is_set_back {
            return;
        }
        let names: Vec<Arc<str>> = self.entries.keys().cloned().collect();
        for name in names {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            entry.ahead = Duration::ZERO;
            if !entry.schedule.plan.ticks.believes(entry.last, now) {
                entry.last = now;
            }
            if entry.at.is_some() {
                self.plan_next(&name, now);
            }
        }
    }
}

impl Entry {
    fn is_stored(&self) -> bool {
        self.schedule.plan.definition.is_some()
    }

    /// Applies the outcome of a job. Returns the shortest wait before the next job.
    fn apply(&mut self, outcome: &Outcome, now: SystemTime) -> Duration {
        if !matches!(outcome, Outcome::Failed) {
            self.backoff = Backoff::new();
        }
        match *outcome {
            Outcome::Reached(stage) => self.stage = stage,
            Outcome::Ticked(Progress::Done) => {
                // Nothing is due by the store's clock, so this clock may have been corrected.
                let is_behind = self.schedule.plan.ticks.after(self.last).is_some_and(|next| next > now);
                if is_behind {
                    self.ahead = Duration::ZERO;
                }
            }
            Outcome::Ticked(Progress::Early(ahead)) => {
                self.ahead = ahead;
                let next = self.schedule.plan.ticks.after(self.last).map(|next| next + ahead);
                let wait = next.and_then(|next| next.duration_since(now).ok()).unwrap_or_default();
                // Checked again earlier: a clock that is so wrong is usually corrected soon.
                if wait > CLOCK_CHECK {
                    self.ahead = Duration::ZERO;
                    return CLOCK_CHECK;
                }
            }
            Outcome::Ticked(Progress::Superseded) => {
                self.last = now;
                return STORE_POLL;
            }
            Outcome::Failed => return self.backoff.delay(),
        }
        Duration::ZERO
    }
}

/// Does the next thing for a schedule.
async fn work(
    schedule: &Schedule,
    stage: Stage,
    last: &mut SystemTime,
    now: SystemTime,
    ahead: Duration,
) -> Result<Outcome, StoreError> {
    match stage {
        Stage::StartUp => {
            schedule.start_up().await?;
            Ok(Outcome::Reached(Stage::Begin))
        }
        Stage::Begin => {
            *last = schedule.begin(now).await?;
            Ok(Outcome::Reached(Stage::Tick))
        }
        Stage::Tick => {
            let store_now = now.checked_sub(ahead).unwrap_or(now);
            let progress = schedule.tick_until(store_now, last).await?;
            if progress == Progress::Superseded && schedule.take_over().await? {
                return Ok(Outcome::Reached(Stage::Begin));
            }
            Ok(Outcome::Ticked(progress))
        }
    }
}

/// Turns a panic, such as one in a custom store, into an error, so that the other schedules go on.
async fn no_panic<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(answer) => answer,
        Err(_) => {
            let message = "a store call panicked";
            tracing::error!("{message}");
            Err(StoreError::new(crate::model::StoreErrorKind::Other, message))
        }
    }
}
