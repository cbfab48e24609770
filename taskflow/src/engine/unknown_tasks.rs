//! Tasks that wait for a process that knows them: left alone, and told once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::jittered;
use super::core::Core;
use crate::model::{TaskFilter, TaskPhase, TaskStatus};
use crate::task::Registry;

const FIRST: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_secs(60);

/// Looks, now and then, at the youngest tasks that wait, and tells of each name that this program does not have and
/// each queue that this process was not told of, once. A newer program may know them: a deploy is under way; or nobody
/// does, and somebody should know.
pub(crate) async fn warn(core: Arc<Core>) {
    let Ok(program) = Registry::collect() else { return };
    let mut told = HashSet::new();
    let mut wait = FIRST;
    loop {
        tokio::select! {
            () = core.over.cancelled() => return,
            () = tokio::time::sleep(jittered(wait)) => {}
        }
        wait = EVERY;
        let waiting = core.store.list_outlines(TaskFilter::new().status(TaskStatus::Pending)).await;
        for task in waiting.map(|page| page.items).unwrap_or_default() {
            if task.phase() != TaskPhase::Waiting {
                continue;
            }
            if program.get(&task.name).is_none() && told.insert(("name", task.name.clone())) {
                tracing::warn!(name = %task.name, task = %task.id, "a task waits whose name this program does not know");
            }
            if !core.queues.knows(&task.queue) && told.insert(("queue", task.queue.clone())) {
                tracing::warn!(queue = %task.queue, task = %task.id, "a task waits in a queue that is not configured here");
            }
        }
    }
}
