//! The scenario `instances`: the same work by one instance and by many on one store.

use std::sync::Arc;

use super::Result;
use super::figure::Sample;
use super::options::Load;
use super::ours::Ours;
use super::queue::Queue;
use super::scenario::{add_concurrently, add_in_bulk, drain, finished, timed};
use super::work::{Payload, RUNS};

/// The tasks for each instance before anything is measured. The server then knows the statements of each connection.
const WARM_UP: u64 = 500;

/// Measures this number of instances of taskflow on an empty store.
pub(super) async fn measure_ours(ours: Ours, load: &Load, instances: u64) -> Result<Vec<Sample>> {
    let warm_up = WARM_UP * instances;
    add_in_bulk(&ours, warm_up).await?;
    let ours = ours.prepare().await?.with_instances(instances).await?;
    drain(&ours, warm_up).await?;
    let warm_up = warm_up / 10;
    RUNS.expect(warm_up);
    add_concurrently(&ours, load.callers.max(instances), 0..warm_up).await?;
    finished(&ours).await?;
    ours.pause().await?;
    measure(ours, load, instances).await
}

/// Measures instances of a floor on one store.
pub(super) async fn measure_floors<Q: Queue>(floors: Vec<Q>, load: &Load) -> Result<Vec<Sample>> {
    let instances = floors.len() as u64;
    measure(Fleet(Arc::new(floors)), load, instances).await
}

/// Measures `drain`, then `flow`. No task runs before.
async fn measure<Q: Queue>(queue: Q, load: &Load, instances: u64) -> Result<Vec<Sample>> {
    add_in_bulk(&queue, load.tasks).await?;
    let draining = drain(&queue, load.tasks).await?;
    RUNS.expect(load.tasks);
    let flow = async {
        add_concurrently(&queue, load.callers.max(instances), 0..load.tasks).await?;
        finished(&queue).await
    };
    let flowing = timed(flow).await?;
    RUNS.check()?;
    queue.close().await?;
    Ok(vec![
        Sample::rate("instances/drain", load.tasks, draining),
        Sample::rate("instances/flow", load.tasks, flowing),
    ])
}

/// Instances of one queue. Each adds in turn, and all run.
#[derive(Clone, Debug)]
struct Fleet<Q>(Arc<Vec<Q>>);

impl<Q: Queue> Queue for Fleet<Q> {
    async fn add(&self, payload: Payload) -> Result<()> {
        let turn = payload.user_id as usize % self.0.len();
        self.0[turn].add(payload).await
    }

    async fn add_all(&self, payloads: Vec<Payload>) -> Result<()> {
        self.0[0].add_all(payloads).await
    }

    async fn prepare(self) -> Result<Self> {
        Ok(self)
    }

    async fn run(&self) -> Result<()> {
        for instance in self.0.iter() {
            instance.run().await?;
        }
        Ok(())
    }

    async fn unfinished(&self) -> Result<u64> {
        let mut unfinished: u64 = 0;
        for instance in self.0.iter() {
            // One instance finishes tasks of another, so its own number may be below zero and wrap. The sum is right.
            unfinished = unfinished.wrapping_add(instance.unfinished().await?);
        }
        Ok(unfinished)
    }

    async fn close(self) -> Result<()> {
        let instances = Arc::try_unwrap(self.0).map_err(|_| "the fleet is still in use")?;
        for instance in instances {
            instance.close().await?;
        }
        Ok(())
    }
}
