//! The states of a database row. They are finer than [`TaskStatus`]: pending is split, so that an index can tell due,
//! later, held and blocked tasks apart.

use super::transition::{Stage, TaskState};
use crate::model::TaskStatus;

/// The value of the column `taskflow_tasks.state`. The numbers are part of every schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowState {
    /// Pending and due, but blocked because its concurrency key is busy. In SQLite also a pending task that has expired.
    Blocked = -1,
    /// Pending and due: claimable unless its queue is paused.
    Due = 0,
    /// Pending, and not due before `run_at`.
    Later = 1,
    /// Pending and held by an instance.
    Held = 2,
    Running = 3,
    Success = 4,
    Failed = 5,
    Interrupted = 6,
    Cancelled = 7,
    Rejected = 8,
}

impl RowState {
    pub(super) const ALL: [Self; 10] = [
        Self::Blocked,
        Self::Due,
        Self::Later,
        Self::Held,
        Self::Running,
        Self::Success,
        Self::Failed,
        Self::Interrupted,
        Self::Cancelled,
        Self::Rejected,
    ];

    /// The state with that number. A number that no version of this schema writes becomes `Rejected`.
    pub(super) fn from_number(number: i64) -> Self {
        Self::ALL.into_iter().find(|state| state.number() == number).unwrap_or(Self::Rejected)
    }

    pub(super) fn number(self) -> i64 {
        self as i64
    }

    pub(super) fn status(self) -> TaskStatus {
        match self {
            Self::Blocked | Self::Due | Self::Later | Self::Held => TaskStatus::Pending,
            Self::Running => TaskStatus::Running,
            Self::Success => TaskStatus::Success,
            Self::Failed => TaskStatus::Failed,
            Self::Interrupted => TaskStatus::Interrupted,
            Self::Cancelled => TaskStatus::Cancelled,
            Self::Rejected => TaskStatus::Rejected,
        }
    }

    /// The state of a task that ended with this status. A status that is not final becomes `Failed`, because the task
    /// has ended.
    pub(super) fn ended(status: TaskStatus) -> Self {
        match status {
            TaskStatus::Success => Self::Success,
            TaskStatus::Interrupted => Self::Interrupted,
            TaskStatus::Cancelled => Self::Cancelled,
            TaskStatus::Rejected => Self::Rejected,
            TaskStatus::Pending | TaskStatus::Running | TaskStatus::Failed => Self::Failed,
        }
    }

    /// The state of a task that waits until `run_at`.
    pub(super) fn waiting(run_at: i64, now: i64) -> Self {
        if run_at <= now { Self::Due } else { Self::Later }
    }

    /// The stage of this state, for the task state machine.
    pub(super) fn stage(self) -> Stage {
        match self {
            Self::Blocked | Self::Due | Self::Later => Stage::Waiting,
            Self::Held => Stage::Held,
            Self::Running => Stage::Running,
            ended => Stage::Ended(ended.status()),
        }
    }

    /// The row state of a task after a transition.
    pub(super) fn of(task: &TaskState, now: i64) -> Self {
        match task.stage {
            Stage::Waiting => Self::waiting(task.run_at, now),
            Stage::Held => Self::Held,
            Stage::Running => Self::Running,
            Stage::Ended(status) => Self::ended(status),
        }
    }

    pub(super) fn is_pending(self) -> bool {
        matches!(self, Self::Blocked | Self::Due | Self::Later | Self::Held)
    }

    pub(super) fn is_final(self) -> bool {
        self.number() >= Self::Success.number()
    }
}
