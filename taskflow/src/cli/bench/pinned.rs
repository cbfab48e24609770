//! The scenarios `pinned` and `paced`: a reader keeps an old snapshot, so the server cannot clean up rows that have been
//! removed since. This makes queues in a database slower and slower. A forgotten transaction, a long report or a replication
//! slot is enough to cause it.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Result;
use super::backend::{OldReader, Wear};
use super::figure::{Meaning, Sample};
use super::options::Load;
use super::ours::Ours;
use super::queue::Queue;
use super::scenario::{add_concurrently, add_in_bulk, drain, finished, parts, timed};
use super::work::{Payload, RUNS, nanos_now};

/// Adds of `paced` in each 10 ms.
const ADDS_PER_TICK: u64 = 20;
const TICK: Duration = Duration::from_millis(10);
const TICKS_PER_MINUTE: u64 = 6_000;

/// Finishes many tasks, and then measures `flow` and `drain`.
pub(super) async fn measure(ours: Ours, load: &Load) -> Result<Vec<Sample>> {
    add_in_bulk(&ours, load.pinned).await?;
    let ours = ours.prepare().await?;
    drain(&ours, load.pinned).await?;
    RUNS.expect(load.tasks);
    let flow = async {
        add_concurrently(&ours, load.callers, 0..load.tasks).await?;
        finished(&ours).await
    };
    let flow = timed(flow).await?;
    RUNS.check()?;
    // With the same manager, because a new one does not know yet where to search.
    ours.pause().await?;
    add_in_bulk(&ours, load.tasks).await?;
    let draining = drain(&ours, load.tasks).await?;
    ours.close().await?;
    Ok(vec![
        Sample::rate("pinned/flow", load.tasks, flow),
        Sample::rate("pinned/drain", load.tasks, draining),
    ])
}

/// Adds 2,000 tasks per second. Returns the samples of the first minute and of the last one.
pub(super) async fn paced(ours: Ours, load: &Load, reader: &mut impl OldReader) -> Result<[Vec<Sample>; 2]> {
    let ours = ours.prepare().await?;
    ours.run().await?;
    let mut first = None;
    let mut before = reader.wear().await?;
    for minute in 1.. {
        let micros = one_minute(&ours).await?;
        let after = reader.wear().await?;
        let samples = samples(micros, before, after);
        if minute == load.minutes {
            ours.close().await?;
            return Ok([first.unwrap_or_default(), samples]);
        }
        first.get_or_insert(samples);
        before = after;
    }
    unreachable!("there is a last minute")
}

/// The microseconds from each add of a minute to its start.
async fn one_minute(ours: &Ours) -> Result<Vec<f64>> {
    let tasks = ADDS_PER_TICK * TICKS_PER_MINUTE;
    RUNS.expect(tasks);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = Instant::now();
    let mut adding = tokio::task::JoinSet::new();
    let mut called = Vec::new();
    for tick in 0..TICKS_PER_MINUTE {
        ticks.tick().await;
        for number in tick * ADDS_PER_TICK..(tick + 1) * ADDS_PER_TICK {
            called.push(nanos_now());
            let ours = ours.clone();
            adding.spawn(async move { ours.add(Payload::of(number)).await });
        }
        while let Some(added) = adding.try_join_next() {
            added??;
        }
    }
    while let Some(added) = adding.join_next().await {
        added??;
    }
    finished(ours).await?;
    RUNS.check()?;
    if began.elapsed() > Duration::from_secs(66) {
        return Err("this machine cannot keep up with 2,000 tasks per second".into());
    }
    let micros = |(number, at): (usize, &u64)| RUNS.started(number).saturating_sub(*at) as f64 / 1_000.0;
    Ok(called.iter().enumerate().map(micros).collect())
}

fn samples(micros: Vec<f64>, before: Wear, after: Wear) -> Vec<Sample> {
    let log = (after.log - before.log) as f64 / micros.len() as f64;
    let mut samples = parts(["paced/p50", "paced/p99", "paced/max"], micros);
    samples.push(Sample { name: "paced/log_per_task", value: log, meaning: Meaning::Bytes });
    let dead = after.dead_rows as f64;
    samples.push(Sample { name: "paced/dead_rows", value: dead, meaning: Meaning::Rows });
    samples
}
