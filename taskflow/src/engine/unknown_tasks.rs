//! Warns of waiting tasks whose name or queue this process does not know. It leaves the tasks alone, and logs each name and
//! each queue once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::store_backoff::jittered;
use crate::model::{TaskFilter, TaskPhase, TaskStatus};
use crate::task::Registry;

const FIRST: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_secs(60);

/// Reads the youngest pending tasks after 2 s and then every minute. Logs a warning once for each name of a due task that
/// this program does not have and each queue that this process does not configure. Another program may know them, such as a
/// newer one during a deploy. If none does, an operator should find out.
pub(crate) async fn warn(core: Arc<Core>) {
    let Ok(program) = Registry::collect() else { return };
    let mut warned = HashSet::new();
    let mut wait = FIRST;
    loop {
        tokio::select! {
            biased;
            () = core.over.cancelled() => return,
            () = core.seam.pause(jittered(wait)) => {}
        }
        wait = EVERY;
        let waiting = core.store.list_outlines(TaskFilter::new().status(TaskStatus::Pending)).await;
        for task in waiting.map(|page| page.items).unwrap_or_default() {
            if task.phase_at(core.seam.now()) != TaskPhase::Waiting {
                continue;
            }
            if program.get(&task.name).is_none() && warned.insert(("name", task.name.clone())) {
                tracing::warn!(
                    name = %task.name, task = %task.id,
                    "a task waits, but this program does not know its name; run a program that does, or cancel it. If a \
                     library crate of this program defines it, name that crate: `use my_tasks as _;`"
                );
            }
            if !core.queues.knows(&task.queue) && warned.insert(("queue", task.queue.clone())) {
                tracing::warn!(
                    queue = %task.queue, task = %task.id,
                    "a task waits in a queue that this process does not configure; configure it here, or run a program that does"
                );
            }
        }
    }
}
