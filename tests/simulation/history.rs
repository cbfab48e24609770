//! Plays one history: the acts of a program, its operators and its machines, in the order that the seed gives.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use taskflow::testing::{Fault, Op, TestTasks};
use taskflow::{AddError, CancelOutcome, QueueConfig, TaskFailure, TaskHandle, TaskId, TaskManager};
use tokio::task::JoinHandle;

use crate::bodies::{self, Bodies, NARROW};
use crate::bugs::{Bug, Buggy};
use crate::oracle::{self, Found};

const LEASE: Duration = Duration::from_secs(6);

/// What the program knows about an add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It returned `Ok`.
    Accepted,
    /// It has not returned, or its error says that the task may be stored.
    Unknown,
    /// It was refused.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// May not run twice.
    Once,
    /// May run again after a lost run, and fails the first `fails` times.
    Again { fails: u32 },
}

/// One task as the program knows it, or several adds of one idempotency key.
#[derive(Clone, Debug)]
pub(crate) struct Added {
    pub(crate) n: u32,
    pub(crate) kind: Kind,
    pub(crate) waits: bool,
    /// Its body adds a child.
    pub(crate) adds: bool,
    pub(crate) is_keyed: bool,
    /// One for each add.
    pub(crate) known: Vec<Known>,
    pub(crate) id: Option<TaskId>,
    /// A cancel was asked for.
    pub(crate) cancel_asked: bool,
    /// A cancel answered that the task is cancelled.
    pub(crate) cancelled: bool,
    /// A delete was asked for.
    pub(crate) deleted: bool,
    /// How often a retry was asked for by hand.
    pub(crate) retried: u32,
    /// The answer to its waiting caller.
    pub(crate) told: Option<Result<u32, TaskFailure>>,
}

/// The events of a history that decide what must hold at its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Something went wrong with the store, a worker or a clock.
    pub(crate) is_rough: bool,
    /// A process was kept from noticing in time that its leases had ended.
    pub(crate) leases_broken: bool,
    pub(crate) jumps: u32,
    /// The latest time that the clock has shown, and how far it was set back from there.
    latest: Option<SystemTime>,
    pub(crate) set_back: Duration,
}

type Answer = Result<Vec<TaskHandle<u32>>, AddError>;
type Waiting = JoinHandle<Result<u32, TaskFailure>>;

pub(crate) struct History {
    pub(crate) t: TestTasks,
    chance: fastrand::Rng,
    pub(crate) bodies: Bodies,
    pub(crate) added: Vec<Added>,
    pub(crate) weather: Weather,
    /// The instant since which nothing has gone wrong.
    pub(crate) well_since: Option<SystemTime>,
    /// Adds that have not returned, and the indexes of their tasks in `added`.
    adds: Vec<(Vec<usize>, JoinHandle<Answer>)>,
    cancels: Vec<(usize, JoinHandle<Option<CancelOutcome>>)>,
    /// Callers that wait for results.
    waits: Vec<(usize, Waiting)>,
    steps: Vec<u32>,
}

/// Plays one history on a runtime of its own. Answers what the oracle found, and a trace that is the same for the same seed.
pub(crate) fn play(seed: u64, bug: Option<Bug>) -> Found {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let played = std::panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let mut history = History::begin(seed, bug).await;
            history.play().await;
            oracle::judge(&history)
        })
    }));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        Found { wrong: vec![format!("it panicked: {text}")], trace: Vec::new() }
    })
}

impl History {
    async fn begin(seed: u64, bug: Option<Bug>) -> Self {
        // The engine draws its jitter from this thread's generator.
        fastrand::seed(seed);
        let chance = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let bodies = Bodies::default();
        let t = TestTasks::new().only(["again", "once", "child", "tick"]).state(bodies.clone()).live();
        let t = t.starts_at("2026-03-28T23:59:00Z").patience(Duration::ZERO);
        let t = t.configure(|tasks| {
            let narrow = QueueConfig::new().global_concurrency(1);
            tasks.lease(LEASE).max_concurrent_tasks(4).stats(false).queue("narrow", narrow)
        });
        let t = match bug {
            Some(bug) => t.around(move |store| Arc::new(Buggy::new(store, bug))),
            None => t,
        };
        let t = t.start().await;
        t.second_worker().await;
        Self {
            t,
            chance,
            bodies,
            added: Vec::new(),
            weather: Weather::default(),
            well_since: None,
            adds: Vec::new(),
            cancels: Vec::new(),
            waits: Vec::new(),
            steps: Vec::new(),
        }
    }

    async fn play(&mut self) {
        // A third of the histories are calm. Some promises hold only there, and not while processes die.
        let most = if self.chance.u32(0..3) == 0 { 66 } else { 108 };
        for _ in 0..self.chance.usize(6..22) {
            let step = self.chance.u32(0..most);
            self.steps.push(step);
            self.step(step).await;
            self.settle().await;
        }
        self.heal().await;
    }

    async fn step(&mut self, step: u32) {
        match step {
            0..=29 => self.add(),
            30..=47 => drop(self.t.advance(Duration::from_millis(self.chance.u64(0..9000))).await),
            48..=55 => self.bodies.let_go(&mut self.chance),
            56..=58 => self.add_again(),
            59..=62 => self.cancel(),
            63 => self.operate().await,
            64 => self.pause(true),
            65 => self.pause(false),
            // Something breaks in these steps.
            66..=79 => {
                self.weather.is_rough = true;
                let fault = self.fault();
                self.t.fault(fault);
                // Most calls find nothing to do. A new task makes the fault matter.
                if self.chance.bool() {
                    self.add();
                }
            }
            80..=84 if self.t.workers() > 1 => {
                self.weather.is_rough = true;
                self.t.kill_worker().await;
            }
            85..=88 if self.t.awake_workers() > 0 => {
                (self.weather.is_rough, self.weather.leases_broken) = (true, true);
                self.t.freeze_worker().await;
            }
            89..=90 => self.t.thaw().await,
            91..=93 => {
                self.weather.is_rough = true;
                self.t.fault(Fault::away());
                self.t.advance(Duration::from_millis(self.chance.u64(0..9000))).await;
                self.t.back();
            }
            94..=95 => {
                (self.weather.is_rough, self.weather.leases_broken) = (true, true);
                self.t.expire_leases().await;
            }
            96..=99 => self.jump(),
            100..=104 if self.t.awake_workers() > 1 => {
                self.weather.is_rough = true;
                let patience = Duration::from_millis(self.chance.u64(0..3000));
                self.t.stop_worker(patience).await;
            }
            100.. if self.t.workers() < 4 => {
                // The pending faults would keep the worker from starting.
                self.t.back();
                self.t.second_worker().await;
            }
            _ => {}
        }
    }

    fn fault(&mut self) -> Fault {
        let ops =
            [Op::Insert, Op::Claim, Op::Finish, Op::Renew, Op::Recover, Op::Fire, Op::Control, Op::Read];
        let op = *self.chance.choice(&ops).unwrap();
        let length = Duration::from_millis(self.chance.u64(1..9000));
        let fault = match self.chance.u32(0..4) {
            0 => Fault::error(op),
            1 => Fault::lose_answer(op),
            2 => Fault::delay(op, length),
            _ => Fault::late_answer(op, length),
        };
        fault.times(self.chance.u64(1..3))
    }

    /// An operator sets the clock of the machine.
    fn jump(&mut self) {
        self.weather.is_rough = true;
        self.weather.jumps += 1;
        let length = Duration::from_secs(self.chance.u64(1..60));
        if self.chance.bool() {
            // The store considers its leases older than they are.
            self.weather.leases_broken = true;
            self.t.set_clock(self.t.now() + length);
        } else {
            self.weather.latest = self.weather.latest.max(Some(self.t.now()));
            self.t.set_clock(self.t.now() - length);
            let back = self.weather.latest.and_then(|latest| latest.duration_since(self.t.now()).ok());
            self.weather.set_back = self.weather.set_back.max(back.unwrap_or_default());
        }
    }

    fn add(&mut self) {
        let number = if self.chance.u32(0..5) == 0 { 2 } else { 1 };
        let mut places = Vec::new();
        for _ in 0..number {
            let place = self.added.len();
            let n = u32::try_from(place).unwrap() + if self.chance.u32(0..4) == 0 { NARROW } else { 0 };
            let kind = match self.chance.bool() {
                true => Kind::Once,
                false => Kind::Again { fails: self.chance.u32(0..5) },
            };
            self.added.push(Added {
                n,
                kind,
                waits: self.chance.bool(),
                adds: self.chance.u32(0..3) == 0,
                is_keyed: self.chance.u32(0..3) == 0,
                known: Vec::new(),
                id: None,
                cancel_asked: false,
                cancelled: false,
                deleted: false,
                retried: 0,
                told: None,
            });
            places.push(place);
        }
        self.send(places);
    }

    /// A program that does not know whether its add was stored adds again, with the same key.
    fn add_again(&mut self) {
        let keyed: Vec<_> = (0..self.added.len()).filter(|at| self.added[*at].is_keyed).collect();
        if let Some(at) = self.chance.choice(&keyed).copied() {
            self.send(vec![at]);
        }
    }

    fn send(&mut self, places: Vec<usize>) {
        let manager = self.t.manager();
        let wait = Duration::from_secs(self.chance.u64(0..3) * 4);
        let mut tasks = Vec::new();
        for place in &places {
            let added = &mut self.added[*place];
            added.known.push(Known::Unknown);
            let Added { n, waits, adds, .. } = *added;
            let task = match added.kind {
                Kind::Once => manager.add_task(bodies::once, (n, waits)),
                Kind::Again { fails } => manager.add_task(bodies::again, (n, fails, waits, adds)),
            };
            let task = if wait.is_zero() { task } else { task.run_in(wait) };
            let task = if n >= NARROW { task.queue("narrow") } else { task };
            let priority = self.chance.i16(0..3);
            let task = task.priority(priority).eager(self.chance.u32(0..8) == 0);
            tasks.push(if added.is_keyed { task.idempotency_key(format!("key {n}")) } else { task });
        }
        let manager = manager.clone();
        self.adds.push((places, tokio::spawn(async move { manager.add_all(tasks).await })));
    }

    fn any_known(&mut self) -> Option<(usize, TaskId)> {
        let known = self.added.iter().enumerate().filter_map(|(at, added)| Some((at, added.id?)));
        let known: Vec<_> = known.collect();
        self.chance.choice(&known).copied()
    }

    fn cancel(&mut self) {
        let Some((at, id)) = self.any_known() else { return };
        self.added[at].cancel_asked = true;
        let manager = self.t.manager().clone();
        self.cancels.push((at, tokio::spawn(async move { manager.cancel(id).await.ok() })));
    }

    /// An operator retries or deletes a task.
    async fn operate(&mut self) {
        let Some((at, id)) = self.any_known() else { return };
        let manager: TaskManager = self.t.manager().clone();
        if self.chance.u32(0..3) > 0 {
            self.added[at].retried += 1;
            tokio::spawn(async move { manager.retry(id).await.is_ok() });
        } else {
            self.added[at].deleted = true;
            tokio::spawn(async move { manager.delete(id).await.is_ok() });
        }
        self.t.advance(Duration::from_millis(1)).await;
    }

    fn pause(&self, paused: bool) {
        let manager: TaskManager = self.t.manager().clone();
        tokio::spawn(async move {
            match paused {
                true => manager.pause_queue("default").await,
                false => manager.resume_queue("default").await,
            }
        });
    }

    /// Notes the calls that have returned.
    async fn settle(&mut self) {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        for (places, add) in std::mem::take(&mut self.adds) {
            if !add.is_finished() {
                self.adds.push((places, add));
                continue;
            }
            self.returned(places, add.await.unwrap());
        }
        for (at, cancel) in std::mem::take(&mut self.cancels) {
            match cancel.is_finished() {
                true => self.added[at].cancelled |= cancel.await.unwrap() == Some(CancelOutcome::Cancelled),
                false => self.cancels.push((at, cancel)),
            }
        }
        for (at, wait) in std::mem::take(&mut self.waits) {
            match wait.is_finished() {
                true => self.added[at].told = Some(wait.await.unwrap()),
                false => self.waits.push((at, wait)),
            }
        }
    }

    fn returned(&mut self, places: Vec<usize>, answer: Answer) {
        let known = match &answer {
            Ok(_) => Known::Accepted,
            Err(AddError::Unknown { .. }) => Known::Unknown,
            Err(_) => Known::Refused,
        };
        let mut handles = answer.into_iter().flatten();
        for place in places {
            let added = &mut self.added[place];
            // If several adds have one key, it does not matter which of them has returned.
            if let Some(open) = added.known.iter_mut().find(|known| **known == Known::Unknown) {
                *open = known;
            }
            if let Some(handle) = handles.next() {
                let is_first = added.id.is_none();
                added.id = Some(handle.id());
                if is_first {
                    self.waits.push((place, tokio::spawn(async move { handle.wait().await })));
                }
            }
        }
    }

    /// Everything heals, and time passes.
    async fn heal(&mut self) {
        self.t.back();
        self.t.thaw().await;
        self.bodies.let_all_go();
        if self.t.workers() == 0 || self.chance.bool() {
            self.t.second_worker().await;
        }
        self.well_since = Some(self.t.now());
        // A pause that is still under way takes effect before this.
        self.t.advance("20s").await;
        self.pause(false);
        for round in 0..if self.weather.jumps > 0 { 16 } else { 6 } {
            self.t.advance("20s").await;
            self.settle().await;
            let is_over = self.stuck() == [0; 3] && self.t.records().iter().all(|it| it.status.is_final());
            if round > 1 && is_over {
                break;
            }
        }
    }

    pub(crate) fn steps(&self) -> &[u32] {
        &self.steps
    }

    /// The numbers of calls that never returned: adds, cancels, and callers that wait for results.
    pub(crate) fn stuck(&self) -> [usize; 3] {
        [self.adds.len(), self.cancels.len(), self.waits.len()]
    }
}
