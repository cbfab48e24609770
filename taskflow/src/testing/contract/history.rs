//! Random operations on a store, from which proptest makes histories.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::{AttemptOutcome, NewTask, QueueConfig, RateLimit, TaskStatus, When};
use crate::store::{FinishKind, InsertTask, SharedLimits, Start};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::lab::{LONG, end, give_back, limited, retry, success, with};
use super::model_schedules::{Change, FireSpec};

pub(crate) const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];
pub(crate) const QUEUES: [&str; 2] = ["default", "mail"];
const KEYS: [&str; 3] = ["k", "k\0", "l"];
const CONCURRENCY_KEYS: [&str; 5] = ["t", "t", "t", "t\0", "u"];
/// The longest period of a rate limit.
pub(crate) const LONGEST_RATE: Duration = Duration::from_secs(6 * 3600);
const MOMENT: Duration = Duration::from_millis(1);
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const SCHEDULES: [&str; 2] = ["nightly", "report"];
const TIMINGS: [&str; 2] = ["every 1s", "every 2s"];

/// One operation. It names tasks and runs by numbers, taken modulo how many there are when the operation is performed.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Insert { by: usize, groups: Vec<Vec<Spec>> },
    InsertAgain { by: usize, task: usize },
    Claim { by: usize, request: Request },
    Finish(Vec<(Pick, FinishKind)>),
    Turn { by: usize, releases: Vec<(Pick, bool)>, finishes: Vec<(Pick, FinishKind)>, request: Request },
    Report(Vec<Pick>),
    Release(Vec<(Pick, bool)>),
    Renew { by: usize, more: Vec<Pick> },
    Lose { by: usize, by_leaving: bool },
    Cancel(Vec<usize>),
    CancelScheduled(&'static str),
    Retry(Vec<usize>),
    Delete(Vec<usize>),
    Pause { queue: &'static str, paused: bool },
    Fire { by: usize, fire: FireSpec, task: Option<Spec> },
    SetSchedule { schedule: &'static str, change: Change },
    AskForScheduleChanges,
}

/// A task to be added.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    name: &'static str,
    queue: &'static str,
    priority: i16,
    key: Option<&'static str>,
    run_key: Option<&'static str>,
    concurrency_key: Option<&'static str>,
    expiry: Option<Expiry>,
    far: bool,
    start: Start,
    max_size: Option<usize>,
    attempts: u32,
    delay: Duration,
    may_run_again: bool,
    max_lost_runs: u32,
}

/// Until when a task may start. An expiry ahead is so far off that it never passes during a history.
#[derive(Clone, Copy, Debug)]
enum Expiry {
    Ago(Duration),
    Ahead(Duration),
}

impl Expiry {
    fn instant(self) -> SystemTime {
        match self {
            Self::Ago(length) => SystemTime::now() - length,
            Self::Ahead(length) => SystemTime::now() + length,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) names: Vec<&'static str>,
    /// Each queue, how many tasks may be claimed from it, and whether they may be prefetched.
    pub(crate) queues: Vec<(&'static str, usize, bool)>,
    pub(crate) limit: usize,
    /// How many of `limit` are beyond the free slots.
    pub(crate) prefetch: usize,
    /// The limits over all processes of some of these queues.
    pub(crate) limits: Vec<(&'static str, SharedLimits)>,
}

impl Request {
    /// A request for whatever can be claimed, without any limit.
    pub(crate) fn for_everything() -> Self {
        let (all, names) = (1000, NAMES.to_vec());
        let queues = QUEUES.map(|queue| (queue, all, true)).to_vec();
        Self { names, queues, limit: all, prefetch: 0, limits: Vec::new() }
    }

    /// Limits of each kind, so narrow that a few claims reach them.
    pub(crate) fn within_narrow_limits(mut self) -> Self {
        let limits = QueueConfig::new().key_concurrency(1).global_concurrency(3);
        let rate = limits.clone().rate_limit(7, LONG);
        self.limits = vec![("default", SharedLimits::of(&limits)), ("mail", SharedLimits::of(&rate))];
        self
    }

    pub(crate) fn limits_of(&self, queue: &str) -> SharedLimits {
        let limits = self.limits.iter().find(|(limited, _)| *limited == queue);
        limits.map_or_else(SharedLimits::default, |(_, limits)| *limits)
    }
}

/// A run or a hold: mostly one that is alive, otherwise any earlier one. Sometimes its fence is one that it never had.
#[derive(Clone, Debug)]
pub(crate) struct Pick {
    pub(crate) alive: bool,
    pub(crate) number: usize,
    pub(crate) wrong_by: u64,
}

impl Spec {
    pub(crate) fn insert(&self, number: usize) -> InsertTask {
        let args = Arc::from(format!("{{\"number\":{number}}}"));
        let new = with(NewTask::new(self.name, Ok(args)), |task| {
            task.queue = self.queue.into();
            task.priority = self.priority;
            task.idempotency_key = self.key.map(str::to_owned);
            task.run_key = self.run_key.map(str::to_owned);
            task.concurrency_key = self.concurrency_key.map(str::to_owned);
            task.expires_at = self.expiry.map(Expiry::instant);
            task.when = if self.far { When::In(LONG) } else { When::Now };
            let policy = task.policy.to_mut();
            (policy.retries, policy.delay) = (self.attempts - 1, self.delay);
            (policy.requeue_on_interrupt, policy.max_lost_runs) = (self.may_run_again, self.max_lost_runs);
        });
        match self.max_size {
            Some(max_size) => limited(new, self.start, max_size),
            None => InsertTask::new(new, self.start),
        }
    }
}

pub(crate) fn history() -> impl Strategy<Value = Vec<Op>> {
    vec(op(), 1..60)
}

fn op() -> impl Strategy<Value = Op> {
    let task = || 0..1000_usize;
    let by = || 0..2_usize;
    let finishes = || vec((pick(), kind()), 0..4);
    prop_oneof![
        8 => (by(), vec(vec(spec(), 1..4), 1..4)).prop_map(|(by, groups)| Op::Insert { by, groups }),
        1 => (by(), task()).prop_map(|(by, task)| Op::InsertAgain { by, task }),
        10 => (by(), request()).prop_map(|(by, request)| Op::Claim { by, request }),
        6 => finishes().prop_map(Op::Finish),
        3 => (by(), vec((pick(), any::<bool>()), 0..3), finishes(), request())
            .prop_map(|(by, releases, finishes, request)| Op::Turn { by, releases, finishes, request }),
        1 => vec(pick(), 1..3).prop_map(Op::Report),
        2 => vec((pick(), any::<bool>()), 1..3).prop_map(Op::Release),
        1 => (by(), vec(pick(), 0..3)).prop_map(|(by, more)| Op::Renew { by, more }),
        2 => (by(), any::<bool>()).prop_map(|(by, by_leaving)| Op::Lose { by, by_leaving }),
        2 => vec(task(), 1..4).prop_map(Op::Cancel),
        1 => prop::sample::select(&KEYS[..]).prop_map(Op::CancelScheduled),
        3 => vec(task(), 1..6).prop_map(Op::Retry),
        1 => vec(task(), 1..4).prop_map(Op::Delete),
        1 => (prop::sample::select(&QUEUES[..]), any::<bool>())
            .prop_map(|(queue, paused)| Op::Pause { queue, paused }),
        3 => (by(), fire(), option::weighted(0.8, spec()))
            .prop_map(|(by, fire, task)| Op::Fire { by, fire, task }),
        2 => (prop::sample::select(&SCHEDULES[..]), change())
            .prop_map(|(schedule, change)| Op::SetSchedule { schedule, change }),
        1 => Just(Op::AskForScheduleChanges),
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    let start = prop_oneof![
        4 => Just(Start::Wait),
        2 => Just(Start::LeaseIfIdle),
        1 => Just(Start::Lease),
        2 => Just(Start::Hold),
    ];
    let identity = (
        prop::sample::select(&NAMES[..]),
        prop::sample::select(&QUEUES[..]),
        -1..=1_i16,
        option::weighted(0.3, prop::sample::select(&KEYS[..])),
        option::weighted(0.3, prop::sample::select(&KEYS[..])),
    );
    let life = (prop::bool::weighted(0.2), start, option::weighted(0.3, 0..5_usize));
    let concurrency_group = option::weighted(0.5, prop::sample::select(&CONCURRENCY_KEYS[..]));
    let expiry = option::weighted(0.2, expiry());
    let delay = prop_oneof![2 => Just(Duration::ZERO), 1 => Just(LONG)];
    let policy = (1..4_u32, delay, any::<bool>(), 1..4_u32);
    (identity, life, policy, concurrency_group, expiry).prop_map(
        |(identity, life, policy, concurrency_key, expiry)| {
            let (name, queue, priority, key, run_key) = identity;
            let (far, start, max_size) = life;
            let (attempts, delay, may_run_again, max_lost_runs) = policy;
            Spec {
                name,
                queue,
                priority,
                key,
                run_key,
                concurrency_key,
                expiry,
                far,
                start,
                max_size,
                attempts,
                delay,
                may_run_again,
                max_lost_runs,
            }
        },
    )
}

fn expiry() -> impl Strategy<Value = Expiry> {
    prop::sample::select(vec![
        Expiry::Ago(MOMENT),
        Expiry::Ago(CENTURY / 10),
        Expiry::Ahead(LONG),
        Expiry::Ahead(CENTURY),
    ])
}

/// Limits of one queue. The period of a rate limit never ends during a history.
fn limits() -> impl Strategy<Value = SharedLimits> {
    let rate = (0..4_usize, prop::sample::select(vec![LONG, LONGEST_RATE]));
    let rate = rate.prop_map(|(starts, per)| RateLimit::new(starts, per));
    (option::weighted(0.3, 0..4_usize), option::weighted(0.6, 0..3_usize), option::weighted(0.4, rate))
        .prop_map(|(global_concurrency, key_concurrency, rate_limit)| SharedLimits {
            global_concurrency,
            key_concurrency,
            rate_limit,
        })
}

fn request() -> impl Strategy<Value = Request> {
    let names = prop::sample::subsequence(NAMES.to_vec(), 1..=NAMES.len());
    let queues = (
        prop::sample::subsequence(QUEUES.to_vec(), 1..=QUEUES.len()),
        vec((0..4_usize, any::<bool>()), QUEUES.len()),
    );
    let limits = vec(option::weighted(0.6, limits()), QUEUES.len());
    (names, queues, limits, 0..6_usize, 0..6_usize).prop_map(
        |(names, (queues, free), limits, limit, prefetch)| {
            let limits =
                queues.iter().zip(limits).filter_map(|(queue, limits)| Some((*queue, limits?))).collect();
            let queues = queues
                .into_iter()
                .zip(free)
                .map(|(queue, (free, prefetch))| (queue, free, prefetch))
                .collect();
            Request { names, queues, limit, prefetch: prefetch.min(limit), limits }
        },
    )
}

fn pick() -> impl Strategy<Value = Pick> {
    let wrong_by = prop_oneof![8 => Just(0_u64), 1 => 1..3_u64];
    (prop::bool::weighted(0.8), 0..1000_usize, wrong_by).prop_map(|(alive, number, wrong_by)| Pick {
        alive,
        number,
        wrong_by,
    })
}

fn kind() -> impl Strategy<Value = FinishKind> {
    use AttemptOutcome::{HandedBack, Snoozed};
    prop_oneof![
        3 => Just(success()),
        3 => Just(retry(Duration::ZERO)),
        1 => Just(retry(LONG)),
        2 => Just(give_back(None)),
        1 => Just(give_back(Some(Snoozed))),
        1 => Just(FinishKind::GiveBack { delay: LONG, outcome: Some(HandedBack) }),
        1 => Just(end(TaskStatus::Failed)),
        1 => Just(end(TaskStatus::Interrupted)),
        1 => Just(end(TaskStatus::Cancelled)),
    ]
}

fn fire() -> impl Strategy<Value = FireSpec> {
    let timing = || option::weighted(0.3, prop::sample::select(&TIMINGS[..]));
    let start_after = option::weighted(0.2, option::of(0..4_u64));
    let schedule = prop::sample::select(&SCHEDULES[..]);
    (schedule, 0..12_u64, start_after, timing(), timing(), prop_oneof![3 => Just(0), 1 => 1..3_u64]).prop_map(
        |(schedule, tick, start_after, definition, declared, skipped)| FireSpec {
            schedule,
            tick,
            start_after,
            definition,
            declared,
            skipped,
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    let timing = || prop::sample::select(&TIMINGS[..]);
    prop_oneof![
        1 => any::<bool>().prop_map(Change::Pause),
        2 => (timing(), 0..6_u64).prop_map(|(definition, from)| Change::Define { definition, from }),
        1 => Just(Change::Remove),
        2 => (timing(), 0..4_u64, option::weighted(0.3, 0..4_u64))
            .prop_map(|(timing, since, instead_of)| Change::Declare { timing, since, instead_of }),
        1 => (0..4_u64).prop_map(|since| Change::Undeclare { since }),
    ]
}
