//! How long ended tasks are kept.

use std::time::Duration;

use crate::model::{Error, TaskStatus};

/// How long the records of ended tasks are kept: one length for all, and others for single statuses.
///
/// ```
/// use std::time::Duration;
/// use taskflow::{TaskStatus, store::Retention};
///
/// const DAY: Duration = Duration::from_secs(24 * 3600);
/// let retention = Retention::new(7 * DAY).with(TaskStatus::Failed, 90 * DAY)?;
/// assert_eq!(retention.of(TaskStatus::Failed), 90 * DAY);
/// assert_eq!(retention.of(TaskStatus::Success), 7 * DAY);
/// assert_eq!((retention.shortest(), retention.longest()), (7 * DAY, 90 * DAY));
///
/// // Only ended tasks are pruned.
/// assert!(retention.with(TaskStatus::Pending, DAY).is_err());
/// # Ok::<(), taskflow::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    unless_set: Duration,
    /// In the order of [`Retention::STATUSES`].
    of: [Option<Duration>; 5],
}

impl Retention {
    /// The statuses of ended tasks.
    pub const STATUSES: [TaskStatus; 5] = [
        TaskStatus::Success,
        TaskStatus::Failed,
        TaskStatus::Interrupted,
        TaskStatus::Cancelled,
        TaskStatus::Rejected,
    ];

    /// Keeps every ended task for this long. [`Duration::MAX`] is for ever.
    #[must_use]
    pub const fn new(length: Duration) -> Self {
        Self { unless_set: length, of: [None; 5] }
    }

    /// Keeps tasks that ended in this status for this long instead.
    ///
    /// # Errors
    /// [`Error::Config`] for a status in which a task has not ended.
    pub fn with(mut self, status: TaskStatus, length: Duration) -> Result<Self, Error> {
        let Some(at) = Self::STATUSES.iter().position(|ended| *ended == status) else {
            return Err(Error::Config {
                option: "retention_of",
                value: status.to_string(),
                message: "only ended tasks are pruned: name `Success`, `Failed`, `Interrupted`, `Cancelled` or `Rejected`",
            });
        };
        self.of[at] = Some(length);
        Ok(self)
    }

    /// How long tasks that ended in this status are kept. For a status that is not final: the length for all statuses, as
    /// given to [`new`](Self::new).
    #[must_use]
    pub fn of(&self, status: TaskStatus) -> Duration {
        let at = Self::STATUSES.iter().position(|ended| *ended == status);
        at.and_then(|at| self.of[at]).unwrap_or(self.unless_set)
    }

    /// The shortest length of any status: no record is pruned sooner.
    #[must_use]
    pub fn shortest(&self) -> Duration {
        Self::STATUSES.map(|status| self.of(status)).into_iter().min().unwrap_or(self.unless_set)
    }

    /// The longest length of any status: a task that ended longer ago is pruned, whatever its status.
    #[must_use]
    pub fn longest(&self) -> Duration {
        Self::STATUSES.map(|status| self.of(status)).into_iter().max().unwrap_or(self.unless_set)
    }
}
