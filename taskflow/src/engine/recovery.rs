//! Recovers lost runs, releases lost holds, and cancels tasks that expired. A run or a hold is lost when its lease ends,
//! or earlier if its process is known to be dead.

use std::sync::Arc;

use super::core::Core;
use super::store_backoff::jittered;
use super::worker::Worker;
use crate::model::{StoreError, TaskEvent, TaskEventKind, TaskStatus};
use crate::observe::Counter;
use crate::store::{Recovered, RecoveredFrom};

/// Recovers lost runs until the process ends. A process that runs no tasks does so too: its callers may wait for them.
pub(crate) async fn watch(core: Arc<Core>, worker: Option<Arc<Worker>>) {
    let every = core.store.capabilities().recover_every;
    loop {
        let wait = core.store.look_again_in().map_or(every, |soon| soon.min(every));
        // A check on a process that may be dead is not delayed by jitter.
        let wait = if wait < every { wait } else { jittered(every) };
        tokio::select! {
            biased;
            () = core.over.cancelled() => return,
            () = core.seam.pause(wait) => {}
        }
        // The health has the error; the next round tries again.
        if let (Ok(true), Some(worker)) = (recover(&core).await, &worker) {
            worker.may_have_work();
        }
    }
}

/// Recovers every lost run, releases every lost hold and cancels expired tasks. Returns whether there were any.
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
                    tracing::info!(task = %id, %name, "a held task was released: its process died, left or did not renew the lease");
                    continue;
                }
                RecoveredFrom::Expiry => {
                    tracing::info!(task = %id, %name, "a task expired before it could start")
                }
                RecoveredFrom::Run => {
                    tracing::warn!(
                        task = %id, %name, status = %task.status,
                        "a run was lost: its process died, left or did not renew its lease in time, or was not visible to others"
                    );
                    core.meter.count(core.meter.cell_by_name(name), Counter::Lost);
                    tell(core, &task, TaskEventKind::Lost).await;
                }
            }
            let ended = match task.status {
                TaskStatus::Failed => {
                    Some(TaskEventKind::Failed { error: task.error.clone().unwrap_or_default() })
                }
                TaskStatus::Interrupted => Some(TaskEventKind::Interrupted),
                TaskStatus::Cancelled => Some(TaskEventKind::Cancelled),
                _ => None,
            };
            if let Some(kind) = ended {
                tell(core, &task, kind).await;
                core.waiters.ended_somehow(task.id);
            }
        }
    }
}

/// Sends an event of a recovered task, if a subscriber or an observer wants it. Only then the record is read.
async fn tell(core: &Core, task: &Recovered, kind: TaskEventKind) {
    if !core.events.want(kind.kind()) {
        return;
    }
    match core.store.get(task.id).await {
        Ok(Some(record)) => core.events.of_record(&record, kind),
        _ => core.events.send(kind.kind(), |at| TaskEvent::at(at, task.id, task.name.clone(), kind)),
    }
}
