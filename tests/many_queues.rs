//! Thousands of queues in one process: empty queues cost the busy one nothing.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::time::{Duration, Instant};

use everywhere::everywhere;
use support::{Place, soon};
use taskflow::{QueueConfig, TaskManager};

const QUEUES: usize = 2_000;
const BUSY: &str = "queue-1234";
/// How often each manager adds and waits in one round.
const TIMES: usize = 40;
const ROUNDS: usize = 4;
/// The most that thousands of queues may cost, as a multiple of one queue.
const MOST: f64 = 1.5;

#[taskflow::task]
async fn double(number: u64) -> Result<u64, String> {
    Ok(number * 2)
}

async fn start(place: &Place, queues: usize, config: &QueueConfig) -> TaskManager {
    let mut builder = place.builder().queue(BUSY, config.clone());
    for number in (0..queues).map(|number| format!("queue-{number}")).filter(|name| name != BUSY) {
        builder = builder.queue(&number, config.clone());
    }
    builder.start().await.unwrap()
}

async fn add_and_wait(tasks: &TaskManager) -> Duration {
    let began = Instant::now();
    let task = soon(tasks.add_task(double, (2,)).queue(BUSY)).await.unwrap();
    assert_eq!(soon(task.wait()).await.unwrap(), 4);
    began.elapsed()
}

/// How much longer it takes with many queues than with one. Both are measured in turn, so that both see the same machine.
async fn ratio(one: &TaskManager, many: &TaskManager) -> f64 {
    let (mut of_one, mut of_many) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        of_one.push(add_and_wait(one).await);
        of_many.push(add_and_wait(many).await);
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    };
    median(of_many) / median(of_one)
}

async fn empty_queues_cost_little(config: QueueConfig) {
    for (alone, shared) in everywhere().into_iter().zip(everywhere()) {
        let (one, many) = (start(&alone, 0, &config).await, start(&shared, QUEUES, &config).await);
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            ratios.push(ratio(&one, &many).await);
        }
        // The smallest ratio, because other programs may slow the machine down for a while.
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(least <= MOST, "{}: {ratios:.2?} times as long as with one queue", alone.url());
        for tasks in [one, many] {
            soon(tasks.shutdown(Duration::from_secs(5))).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn add_and_wait_with_thousands_of_configured_queues_takes_hardly_longer_than_with_one() {
    empty_queues_cost_little(QueueConfig::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_it_if_each_has_a_limit_over_all_processes() {
    let limits = QueueConfig::new().global_concurrency(100).rate_limit(1_000_000, Duration::from_secs(1));
    empty_queues_cost_little(limits).await;
}
