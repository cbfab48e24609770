//! Everything at once: processes that add and run are killed and replaced while queues are paused and resized, tasks cancelled, and
//! schedules added and removed. In the end no task is lost, none is stuck, and each tick happened once.
//!
//! Some seconds a store; `TASKFLOW_SOAK_SECONDS=600 cargo test -p tests --test soak` soaks for ten minutes each.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[allow(dead_code, reason = "the crash tests use the rest")]
mod crash {
    pub(crate) mod oracle;
    pub(crate) mod process;
}
#[path = "support/servers/mod.rs"]
mod servers;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use taskflow::{
    CancelOutcome, Every, NewTask, QueueConfig, TaskFilter, TaskId, TaskManager, TaskStatus,
    model::TaskSource,
};

use crash::oracle::Oracle;
use crash::process::{Lab, Process};

/// How many tasks may wait in a queue. Further adds are refused, and tried again.
const MAX_SIZE: usize = 200;
/// How many more may wait: lost runs return to a queue even if it is full.
const CAME_BACK: u64 = 200;

/// The seed is printed, so that a failure can be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        // Xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What the test did to the processes and their tasks.
#[derive(Default)]
struct Deeds {
    kills: usize,
    pauses: usize,
    resizes: usize,
    schedules: usize,
    /// Tasks that were cancelled, or asked to stop.
    asked: HashSet<TaskId>,
}

fn limits(concurrency: usize) -> QueueConfig {
    QueueConfig::new().concurrency(concurrency).max_size(MAX_SIZE)
}

async fn one_deed(
    deeds: &mut Deeds,
    chance: &mut Chance,
    lab: &Lab,
    tasks: &TaskManager,
    workers: &mut [Process],
) {
    match chance.below(10) {
        0 => {
            let victim = &mut workers[usize::from(chance.below(2) == 0)];
            victim.kill();
            *victim = lab.start(&["serve", "3"]);
            deeds.kills += 1;
        }
        1 => {
            tasks.pause_queue("default").await.unwrap();
            tokio::time::sleep(Duration::from_millis(chance.below(300))).await;
            tasks.resume_queue("default").await.unwrap();
            deeds.pauses += 1;
        }
        2..=4 => {
            let mut config = limits(1 + usize::try_from(chance.below(20)).unwrap());
            if chance.below(2) == 0 {
                config = config.global_concurrency(1 + usize::try_from(chance.below(20)).unwrap());
            }
            if chance.below(3) == 0 {
                config = config
                    .rate_limit(50 + usize::try_from(chance.below(500)).unwrap(), Duration::from_millis(200));
            }
            tasks.set_queue("default", config).await.unwrap();
            deeds.resizes += 1;
        }
        5..=7 => {
            let filter = TaskFilter::new().status(TaskStatus::Pending).source(TaskSource::Manager).limit(5);
            for task in tasks.list(filter).await.unwrap().items {
                if matches!(
                    tasks.cancel(task.id).await.unwrap(),
                    CancelOutcome::Cancelled | CancelOutcome::Requested
                ) {
                    deeds.asked.insert(task.id);
                }
            }
        }
        8 => {
            let mut task = NewTask::new("again", Ok(r#"{"millis":1}"#.into()));
            // As in the worker's attribute: this process knows its tasks by name only.
            let policy = task.policy.to_mut();
            (policy.requeue_on_interrupt, policy.max_lost_runs) = (true, 50);
            tasks
                .schedule(task, Every::new(Duration::from_millis(100)).unwrap())
                .named("soak")
                .await
                .unwrap();
            deeds.schedules += 1;
        }
        _ => {
            tasks.remove_schedule("soak").await.unwrap();
        }
    }
}

async fn soak(store: &str, lab: Lab) {
    let length = std::env::var("TASKFLOW_SOAK_SECONDS").map_or(8, |text| text.parse().unwrap());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed =
        std::env::var("TASKFLOW_SOAK_SEED").map_or(now.as_nanos() as u64 | 1, |text| text.parse().unwrap());
    eprintln!("{store}: seed {seed}");
    let mut chance = Chance(seed);
    let tasks = lab.connect().await;
    tasks.set_queue("default", limits(10)).await.unwrap();
    let mut workers = vec![lab.start(&["serve", "3"]), lab.start(&["serve", "3"])];
    // The paused queue fills up, so adds are refused for want of room also on a machine that runs tasks fast.
    tasks.pause_queue("default").await.unwrap();
    let is_full = || async { tasks.queues().await.unwrap().iter().any(|queue| queue.rejected > 50) };
    lab.until(Duration::from_secs(30), is_full).await;
    tasks.resume_queue("default").await.unwrap();
    let mut deeds = Deeds::default();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(length) {
        one_deed(&mut deeds, &mut chance, &lab, &tasks, &mut workers).await;
        // Work goes on within 15 s after each act.
        let before = lab.ends();
        lab.until(Duration::from_secs(15), || async { lab.ends() > before }).await;
        let waiting = tasks.counts().await.unwrap().pending;
        assert!(waiting <= MAX_SIZE as u64 + CAME_BACK, "{waiting} wait");
    }
    let Deeds { kills, pauses, resizes, schedules, asked } = &deeds;
    let cancels = asked.len();
    eprintln!(
        "{store}: {kills} kills, {pauses} pauses, {resizes} resizes, {cancels} cancels, {schedules} schedules"
    );
    assert!(*resizes > 0 && cancels > 0);
    for worker in &mut workers {
        worker.terminate();
        worker.wait_for_end();
    }
    tasks.remove_schedule("soak").await.unwrap();
    tasks.reset_queue("default").await.unwrap();
    let mut last = lab.start(&["run"]);
    lab.until(Duration::from_secs(30), || async { tasks.counts().await.unwrap().unfinished() == 0 }).await;
    last.terminate();
    last.wait_for_end();

    // Each tick is one task.
    let mut ticks = HashSet::new();
    let mut filter = TaskFilter::new().source(TaskSource::Schedule).limit(TaskFilter::MAX_LIMIT);
    loop {
        let page = tasks.list(filter.clone()).await.unwrap();
        for task in page.items {
            assert_eq!(task.status, TaskStatus::Success, "{task:#?}");
            assert!(ticks.insert(task.scheduled_for.unwrap()), "a tick was two tasks: {task:#?}");
        }
        let Some(next) = page.next else { break };
        filter = filter.after(next);
    }
    assert!(deeds.schedules == 0 || !ticks.is_empty() || length < 30, "no schedule ticked");
    let oracle = Oracle::of(&lab).await;
    eprintln!(
        "{store}: {} were accepted, {} refused for want of room; {} ticks",
        oracle.accepted(),
        oracle.refused_for_size(),
        ticks.len()
    );
    assert!(oracle.refused_for_size() > 0, "the queue was never full");
    oracle.check_but_cancelled(&tasks, &deeds.asked).await;
}

macro_rules! soak {
    ($($store:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $store() {
            if let Some(lab) = Lab::$store() {
                soak(stringify!($store), lab).await;
            }
        }
    )*};
}

soak! { sqlite postgres redis }
