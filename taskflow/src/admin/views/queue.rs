use serde::Serialize;

use crate::model::QueueInfo;

/// What keeps the tasks of a queue from being run or added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum QueueWarning {
    /// It is paused.
    Paused,
    /// No live process runs its tasks.
    NoWorker,
    /// It probably refuses new tasks; see [`QueueInfo::is_full`].
    Full,
}

/// A queue, and what is wrong with it.
#[derive(Debug, Serialize)]
pub struct QueueView {
    #[serde(flatten)]
    info: QueueInfo,
    waiting: u64,
    full: bool,
    warning: Option<QueueWarning>,
}

impl QueueView {
    /// The view of this queue.
    #[must_use]
    pub fn of(info: QueueInfo) -> Self {
        let full = info.is_full();
        let warning = match &info {
            info if info.paused => Some(QueueWarning::Paused),
            info if info.served_by == 0 => Some(QueueWarning::NoWorker),
            _ => full.then_some(QueueWarning::Full),
        };
        Self { waiting: info.waiting(), full, warning, info }
    }

    /// The views of these queues.
    #[must_use]
    pub fn each(queues: Vec<QueueInfo>) -> Vec<Self> {
        queues.into_iter().map(Self::of).collect()
    }

    /// The queue itself.
    #[must_use]
    pub fn info(&self) -> &QueueInfo {
        &self.info
    }

    /// What is wrong with it; if several things are, the most important one.
    #[must_use]
    pub fn warning(&self) -> Option<QueueWarning> {
        self.warning
    }
}
