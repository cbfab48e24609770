//! Reads a watched task until it ends or nobody watches it any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::watches::{Seen, Watched};
use crate::engine::core::Core;
use crate::engine::store_backoff::Backoff;
use crate::model::{StatusUpdate, StoreError, TaskId, TaskStatus};

/// How often a task is read without an event.
const POLL: Duration = Duration::from_millis(500);

/// After a read, the next one waits this many times as long as the read took, but at most [`LONGEST`]. So reads take at most
/// a twentieth of the time, unless one takes longer than 250 ms.
const REST: u32 = 20;

/// The longest wait between two reads.
const LONGEST: Duration = Duration::from_secs(5);

/// How often to check whether anything is still watched.
const CHECK: Duration = Duration::from_secs(1);

/// Watches a task. The receiver shows the state that was read last.
pub(crate) fn watch(core: &Arc<Core>, id: TaskId) -> watch::Receiver<Seen> {
    let (seen, watched) = core.watches.join(id);
    if let Some(watched) = watched {
        let reader = Reader { core: core.clone(), id, watched, logs_of: None };
        core.spawn(reader.run());
        if core.watches.begin_to_listen() {
            let listener = Listener(core.clone());
            core.spawn(listener.run());
        }
    }
    seen
}

/// Reads one task. Dropping it ends its watches.
struct Reader {
    core: Arc<Core>,
    id: TaskId,
    watched: Watched,
    /// The status and the number of attempts when the log lines were last read.
    logs_of: Option<(TaskStatus, usize)>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.core.watches.leave(self.id, &self.watched);
    }
}

impl Reader {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            let began = self.core.seam.instant();
            let (rest, poll) = match self.read().await {
                Ok(true) => return,
                Ok(false) => {
                    backoff = Backoff::new();
                    let rest = (self.core.seam.since(began) * REST).min(LONGEST);
                    (rest, rest.max(POLL))
                }
                Err(error) => {
                    self.watched.seen.send_modify(|seen| seen.error = Some(error.to_string()));
                    let rest = backoff.delay();
                    (rest, rest)
                }
            };
            let woken = async {
                self.core.seam.sleep(rest).await;
                self.watched.wake.notified().await;
            };
            tokio::select! {
                biased;
                () = self.core.over.cancelled() => return,
                () = self.watched.seen.closed() => {}
                () = woken => {}
                () = self.core.seam.pause(poll) => {}
            }
            if self.core.watches.leave_if_unwatched(self.id, &self.watched) {
                return;
            }
        }
    }

    /// Reads the task once. Returns whether that was the last read: the task has ended or does not exist.
    async fn read(&mut self) -> Result<bool, StoreError> {
        let core = &self.core;
        let Some(record) = core.read("a read", core.store.get(self.id)).await? else {
            return Ok(self.gone());
        };
        let state = (record.status, record.attempts.len());
        // Only a run adds lines. Reading them after the record includes those that were stored with its end.
        let new_lines = if record.status == TaskStatus::Running || self.logs_of != Some(state) {
            let Some(lines) = core.read("a read", core.store.logs(self.id)).await? else {
                return Ok(self.gone());
            };
            self.logs_of = Some(state);
            Some(Arc::new(lines))
        } else {
            None
        };
        self.watched.seen.send_if_modified(|seen| {
            let new = Seen {
                status: Some(StatusUpdate::of(&record)),
                progress: record.progress.clone(),
                lines: new_lines.unwrap_or_else(|| seen.lines.clone()),
                error: None,
                is_gone: false,
            };
            let has_changed = !new.is_like(seen);
            *seen = new;
            has_changed
        });
        Ok(record.status.is_final())
    }

    fn gone(&self) -> bool {
        self.watched.seen.send_modify(|seen| seen.is_gone = true);
        true
    }
}

/// Passes the events of this process on to the readers of their tasks, while any task is watched.
struct Listener(Arc<Core>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.watches.stop_listening();
    }
}

impl Listener {
    async fn run(self) {
        let core = &self.0;
        let mut events = core.events.subscribe();
        let mut check_at = core.seam.instant() + CHECK;
        loop {
            tokio::select! {
                biased;
                () = core.over.cancelled() => return,
                event = events.next() => match event {
                    Some(event) => core.watches.wake(event.id),
                    None => return,
                },
                () = core.seam.pause_until(check_at) => {
                    check_at = core.seam.instant() + CHECK;
                    if core.watches.end_if_idle() {
                        return;
                    }
                }
            }
        }
    }
}
