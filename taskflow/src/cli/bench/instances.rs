//! The scenario `instances`: the same work by one instance and by many on one store.

use super::Result;
use super::figure::Sample;
use super::options::Load;
use super::ours::Ours;
use super::queue::Queue;
use super::scenario::{add_concurrently, add_in_bulk, drain, finished, timed};
use super::work::RUNS;

/// Measures `drain`, then `flow`, on an empty store.
pub(super) async fn measure(ours: Ours, load: &Load, instances: u64) -> Result<Vec<Sample>> {
    add_in_bulk(&ours, load.tasks).await?;
    let ours = ours.prepare().await?.with_instances(instances).await?;
    let draining = drain(&ours, load.tasks).await?;
    RUNS.expect(load.tasks);
    let flow = async {
        add_concurrently(&ours, load.callers.max(instances), 0..load.tasks).await?;
        finished(&ours).await
    };
    let flowing = timed(flow).await?;
    RUNS.check()?;
    ours.close().await?;
    Ok(vec![
        Sample::rate("instances/drain", load.tasks, draining),
        Sample::rate("instances/flow", load.tasks, flowing),
    ])
}
