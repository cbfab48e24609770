//! What finished tasks cost those that come after them.

use std::time::Instant;

use taskflow::TaskFilter;

use super::Result;
use super::figure::Sample;
use super::options::Load;
use super::ours::Ours;
use super::queue::Queue;
use super::scenario::{add_concurrently, add_in_bulk, drain, finished, timed};
use super::work::RUNS;

/// Reads of each kind. A page is 100 records.
const READS: u32 = 200;

/// Adds, reads and runs tasks on whatever the store holds, and gives the store back, opened to add to.
pub(super) async fn measure(ours: Ours, load: &Load) -> Result<(Ours, Vec<Sample>)> {
    let adding = timed(add_concurrently(&ours, load.callers, 0..load.tasks)).await?;
    let since = Instant::now();
    for _ in 0..READS {
        ours.manager().counts().await?;
    }
    let counts = since.elapsed();
    let since = Instant::now();
    for _ in 0..READS {
        ours.manager().list(TaskFilter::new()).await?;
    }
    let lists = since.elapsed();
    let ours = ours.prepare().await?;
    let draining = drain(&ours, load.tasks).await?;
    let samples = vec![
        Sample::rate("history/add", load.tasks, adding),
        Sample::rate("history/claim", load.tasks, draining),
        Sample::micros("history/counts", counts, READS),
        Sample::micros("history/list", lists, READS),
    ];
    Ok((ours.reopen().await?, samples))
}

/// Leaves that many finished tasks behind, each of which did run.
pub(super) async fn fill(ours: Ours, tasks: u64) -> Result<Ours> {
    let ours = ours.prepare().await?;
    RUNS.expect(tasks);
    ours.run().await?;
    add_in_bulk(&ours, tasks).await?;
    finished(&ours).await?;
    RUNS.check()?;
    ours.reopen().await
}
