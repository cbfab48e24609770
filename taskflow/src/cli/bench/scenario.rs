//! The scenarios that do the same work with taskflow and with a floor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::Result;
use super::figure::{Meaning, Sample};
use super::options::{Load, Scenario};
use super::queue::Queue;
use super::work::{Payload, RUNS, nanos_now};

/// Tasks in one bulk add.
pub(super) const BULK: u64 = 500;

/// The time between two adds of `latency`.
const PAUSE: Duration = Duration::from_millis(5);

/// Measures one scenario once, on an empty queue.
pub(super) async fn measure<Q: Queue>(queue: Q, scenario: Scenario, load: &Load) -> Result<Vec<Sample>> {
    let tasks = load.tasks;
    match scenario {
        Scenario::Add => {
            let took = timed(add_concurrently(&queue, load.callers, 0..tasks)).await?;
            stored(&queue, tasks).await?;
            queue.close().await?;
            Ok(vec![Sample::rate("add", tasks, took)])
        }
        Scenario::AddAll => {
            let took = timed(add_in_bulk(&queue, tasks)).await?;
            stored(&queue, tasks).await?;
            queue.close().await?;
            Ok(vec![Sample::rate("add_all", tasks, took)])
        }
        Scenario::Drain | Scenario::DrainOnce => {
            add_in_bulk(&queue, tasks).await?;
            let queue = queue.prepare().await?;
            let took = drain(&queue, tasks).await?;
            queue.close().await?;
            Ok(vec![Sample::rate(scenario.name(), tasks, took)])
        }
        Scenario::Flow | Scenario::FlowOnce | Scenario::Observed => {
            let queue = queue.prepare().await?;
            queue.run().await?;
            RUNS.expect(tasks);
            let flow = async {
                add_concurrently(&queue, load.callers, 0..tasks).await?;
                finished(&queue).await
            };
            let took = timed(flow).await?;
            RUNS.check()?;
            queue.close().await?;
            Ok(vec![Sample::rate(scenario.name(), tasks, took)])
        }
        Scenario::DrainFailing => drain_failing(queue, load, 1).await,
        Scenario::Latency => latency(queue, tasks.min(load.samples)).await,
        Scenario::DrainAwaited
        | Scenario::History
        | Scenario::Memory
        | Scenario::Http
        | Scenario::HttpFloor
        | Scenario::Pinned
        | Scenario::Paced
        | Scenario::Scale
        | Scenario::Instances
        | Scenario::Watched => Err("this scenario has no floor to be measured with".into()),
    }
}

/// Drains `runs` tasks for each counted task. A floor has no attempts: it runs two tasks where taskflow runs one task twice.
pub(super) async fn drain_failing<Q: Queue>(queue: Q, load: &Load, runs: u64) -> Result<Vec<Sample>> {
    add_in_bulk(&queue, load.tasks * runs).await?;
    let queue = queue.prepare().await?;
    let took = drain(&queue, load.tasks * runs).await?;
    queue.close().await?;
    Ok(vec![Sample::rate(Scenario::DrainFailing.name(), load.tasks, took)])
}

/// Measures how long the work takes.
pub(super) async fn timed(work: impl Future<Output = Result<()>>) -> Result<Duration> {
    let since = Instant::now();
    work.await?;
    Ok(since.elapsed())
}

/// Adds from concurrent callers, each awaiting its own adds.
pub(super) async fn add_concurrently<Q: Queue>(
    queue: &Q,
    callers: u64,
    numbers: std::ops::Range<u64>,
) -> Result<()> {
    let next = Arc::new(AtomicU64::new(numbers.start));
    let mut adding = JoinSet::new();
    for _ in 0..callers {
        let (queue, next, end) = (queue.clone(), Arc::clone(&next), numbers.end);
        adding.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return Ok(());
                }
                queue.add(Payload::of(number)).await?;
            }
        });
    }
    while let Some(caller) = adding.join_next().await {
        let added: Result<()> = caller?;
        added?;
    }
    Ok(())
}

/// Adds from one caller, many tasks in each call.
pub(super) async fn add_in_bulk<Q: Queue>(queue: &Q, tasks: u64) -> Result<()> {
    let mut number = 0;
    while number < tasks {
        let end = (number + BULK).min(tasks);
        queue.add_all((number..end).map(Payload::of).collect()).await?;
        number = end;
    }
    Ok(())
}

/// Runs the waiting tasks until all are finished in the store.
pub(super) async fn drain<Q: Queue>(queue: &Q, tasks: u64) -> Result<Duration> {
    RUNS.expect(tasks);
    let draining = async {
        queue.run().await?;
        finished(queue).await
    };
    let took = timed(draining).await?;
    RUNS.check()?;
    Ok(took)
}

/// Waits until all expected tasks have run, and then until all have ended in the store.
pub(super) async fn finished<Q: Queue>(queue: &Q) -> Result<()> {
    RUNS.all_noted().await?;
    while queue.unfinished().await? > 0 {
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Checks that the store has all added tasks.
async fn stored<Q: Queue>(queue: &Q, tasks: u64) -> Result<()> {
    match queue.unfinished().await? {
        unfinished if unfinished == tasks => Ok(()),
        unfinished => Err(format!("{tasks} tasks were added, and the store has {unfinished}").into()),
    }
}

async fn latency<Q: Queue>(queue: Q, tasks: u64) -> Result<Vec<Sample>> {
    let queue = queue.prepare().await?;
    queue.run().await?;
    let starts = starts(&queue, tasks).await?;
    queue.close().await?;
    Ok(parts(["latency/p50", "latency/p99", "latency/max"], starts))
}

/// The microseconds from the call of each add to the first line of its handler, one add at a time.
pub(super) async fn starts<Q: Queue>(queue: &Q, tasks: u64) -> Result<Vec<f64>> {
    RUNS.expect(tasks);
    let mut ticks = tokio::time::interval(PAUSE);
    let mut called = Vec::new();
    for number in 0..tasks {
        ticks.tick().await;
        called.push(nanos_now());
        queue.add(Payload::of(number)).await?;
    }
    finished(queue).await?;
    RUNS.check()?;
    let micros = |(number, at): (usize, &u64)| RUNS.started(number).saturating_sub(*at) as f64 / 1_000.0;
    Ok(called.iter().enumerate().map(micros).collect())
}

/// The median, the 99th percentile and the maximum.
pub(super) fn parts(names: [&'static str; 3], mut micros: Vec<f64>) -> Vec<Sample> {
    micros.sort_by(f64::total_cmp);
    let part = |fraction: f64| {
        let place = (micros.len() as f64 * fraction) as usize;
        micros.get(place.min(micros.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    let [median, rare, greatest] = names;
    [(median, 0.5), (rare, 0.99), (greatest, 1.0)]
        .map(|(name, fraction)| Sample { name, value: part(fraction), meaning: Meaning::Micros })
        .to_vec()
}
