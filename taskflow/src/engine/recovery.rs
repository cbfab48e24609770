//! Runs that other processes lost, moved on.

use std::sync::Arc;

use super::backoff::jittered;
use super::core::Core;
use super::worker::Worker;
use crate::model::{StoreError, TaskEventKind, TaskStatus};
use crate::store::RecoveredFrom;

/// Looks for lost runs until the process is over: also in one that runs no tasks, whose users may wait for them.
pub(crate) async fn watch(core: Arc<Core>, worker: Option<Arc<Worker>>) {
    let every = core.store.capabilities().recover_every;
    loop {
        let wait = core.store.look_again_in().map_or(every, |soon| soon.min(every));
        // A look at a process that may be dead is not put off.
        let wait = if wait < every { wait } else { jittered(every) };
        tokio::select! {
            () = core.over.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        // The error is in the health; the next look comes anyway.
        if let (Ok(true), Some(worker)) = (recover(&core).await, &worker) {
            worker.may_have_work();
        }
    }
}

/// Moves on every lost run there is. Answers whether there were any.
pub(crate) async fn recover(core: &Core) -> Result<bool, StoreError> {
    let mut any = false;
    loop {
        let recovered = core.call("a recovery", core.store.recover(core.instance.id)).await?;
        if recovered.is_empty() {
            return Ok(any);
        }
        any = true;
        for task in recovered {
            let (id, name) = (task.id, &task.name);
            match task.from {
                RecoveredFrom::Hold => {
                    tracing::info!(task = %id, %name, "its request ended with its process; it waits now");
                    continue;
                }
                RecoveredFrom::Expiry => {
                    tracing::info!(task = %id, %name, "it expired before it could start")
                }
                RecoveredFrom::Run => {
                    tracing::warn!(task = %id, %name, status = %task.status, "a run was lost with its process");
                    core.events.send(id, name, || TaskEventKind::Lost);
                }
            }
            let ended = match task.status {
                TaskStatus::Failed => Some(TaskEventKind::Failed { error: task.error.unwrap_or_default() }),
                TaskStatus::Interrupted => Some(TaskEventKind::Interrupted),
                TaskStatus::Cancelled => Some(TaskEventKind::Cancelled),
                _ => None,
            };
            if let Some(kind) = ended {
                core.events.send(task.id, &task.name, || kind);
                core.waiters.ended_somehow(task.id);
            }
        }
    }
}
