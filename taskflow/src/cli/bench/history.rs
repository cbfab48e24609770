//! The scenario `history`: how much ended tasks, and tasks that are not due, slow down new ones.

use std::time::Instant;

use taskflow::TaskFilter;

use super::Result;
use super::figure::Sample;
use super::options::Load;
use super::ours::Ours;
use super::queue::Queue;
use super::scenario::{add_concurrently, add_in_bulk, drain, finished, parts, starts, timed};
use super::work::RUNS;

/// Reads of each kind. A page is 100 records.
const READS: u64 = 200;

/// Adds, reads and runs tasks on a store with any content. Returns the store, open for adds.
pub(super) async fn measure(ours: Ours, load: &Load) -> Result<(Ours, Vec<Sample>)> {
    let adding = timed(add_concurrently(&ours, load.callers, 0..load.tasks)).await?;
    let reads = READS.min(load.samples);
    let since = Instant::now();
    for _ in 0..reads {
        ours.manager().counts().await?;
    }
    let counts = since.elapsed();
    let since = Instant::now();
    for _ in 0..reads {
        ours.manager().list(TaskFilter::new()).await?;
    }
    let lists = since.elapsed();
    let ours = ours.prepare().await?;
    let draining = drain(&ours, load.tasks).await?;
    let samples = vec![
        Sample::rate("history/add", load.tasks, adding),
        Sample::rate("history/claim", load.tasks, draining),
        Sample::micros("history/counts", counts, reads),
        Sample::micros("history/list", lists, reads),
    ];
    Ok((ours.reopen().await?, samples))
}

/// Runs tasks on a store that also holds `later` tasks of high priority that are due tomorrow.
pub(super) async fn claim_beside_later(ours: Ours, load: &Load, later: u64) -> Result<Vec<Sample>> {
    let ours = ours.add_later(later).await?;
    add_in_bulk(&ours, load.tasks).await?;
    let ours = ours.prepare().await?;
    let draining = drain(&ours, load.tasks).await?;
    ours.close().await?;
    Ok(vec![Sample::rate("history/claim_beside_later", load.tasks, draining)])
}

/// Measures how soon tasks start while all ended tasks are being deleted.
pub(super) async fn start_while_pruned(ours: Ours, load: &Load) -> Result<Vec<Sample>> {
    let ours = ours.prune().await?;
    let mut micros = Vec::new();
    loop {
        micros.extend(starts(&ours, load.samples).await?);
        // The old tasks have been deleted; only tasks of this measurement are left.
        if ours.manager().counts().await?.total() <= micros.len() as u64 {
            break;
        }
    }
    ours.close().await?;
    Ok(parts(["history/pruned_p50", "history/pruned_p99", "history/pruned_max"], micros))
}

/// Fills the store with that many finished tasks. Each of them has run.
pub(super) async fn fill(ours: Ours, tasks: u64) -> Result<Ours> {
    let ours = ours.prepare().await?;
    RUNS.expect(tasks);
    ours.run().await?;
    add_in_bulk(&ours, tasks).await?;
    finished(&ours).await?;
    RUNS.check()?;
    ours.reopen().await
}
