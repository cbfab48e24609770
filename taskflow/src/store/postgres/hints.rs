//! Hints that something changed: sent by `NOTIFY` after the commit, and received by a [`listener`](super::listener).
//!
//! PostgreSQL serializes the commits of transactions that notify, so a `NOTIFY` inside each write would make writes
//! take four times as long. It is sent by itself instead, one for all writes since the last. It names its sender, so
//! that a process does not wake itself.

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::error::Fault;
use super::session::Session;

/// Without a flush to the disk, because it stores nothing.
const NOTIFY: &str = "
SELECT pg_notify('taskflow_hints', $1), set_config('synchronous_commit', 'off', true)";

#[derive(Debug)]
pub(super) struct Hints {
    /// Identifies the sender: this store value, since a process may have several.
    pub(super) sender: String,
    pub(super) heard: watch::Sender<()>,
    pending: Mutex<PendingNotifications>,
    pub(super) listener: Mutex<Option<JoinHandle<()>>>,
    pub(super) closed: CancellationToken,
}

#[derive(Debug, Default)]
struct PendingNotifications {
    is_full: bool,
    is_sending: bool,
}

impl Hints {
    pub(super) fn new() -> Self {
        Self {
            sender: crate::model::TaskId::new().to_string(),
            heard: watch::channel(()).0,
            pending: Mutex::default(),
            listener: Mutex::default(),
            closed: CancellationToken::new(),
        }
    }

    /// Notifies the listeners of this process that something changed. Answers whether the caller must start a task
    /// that notifies the other processes.
    pub(super) fn changed(&self) -> bool {
        self.heard.send_replace(());
        let mut pending = self.pending.lock();
        pending.is_full = true;
        !std::mem::replace(&mut pending.is_sending, true)
    }

    /// Whether there is something to send. If not, the sending task that asks ends.
    pub(super) fn take(&self) -> bool {
        let mut pending = self.pending.lock();
        pending.is_sending = pending.is_full;
        std::mem::take(&mut pending.is_full)
    }

    /// Notifies the other processes that something changed, in a session of its own.
    pub(super) async fn notify(session: &mut Session<'_>, sender: String) -> Result<u64, Fault> {
        session.execute(session.query(NOTIFY).bind(sender)).await
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}
