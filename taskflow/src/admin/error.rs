use super::Permission;
use crate::model::{AddError, Error, StoreError, TaskId};

/// Why an act was refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The actor has no permission for it.
    #[error("{actor} may not do this: it needs the permission `{permission}`")]
    Forbidden {
        /// The actor.
        actor: String,
        /// What it lacks.
        permission: Permission,
    },
    /// There is no such task, or the actor may not see its queue.
    #[error("there is no task {id}: it never existed, its record was deleted, or you may not see it")]
    NoTask {
        /// The id.
        id: TaskId,
    },
    /// There is no such queue, schedule, operation or other thing (see `what`), or the actor may not see it.
    #[error("there is no {what} `{name}`")]
    NotFound {
        /// `queue`, `schedule`, `operation`, …
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A task is to be added under a name that no live process knows, so that nobody would run it.
    #[error("no live process knows the task `{name}`{}", did_you_mean(.suggestion.as_deref()))]
    UnknownTask {
        /// The name.
        name: String,
        /// A known task of a similar name.
        suggestion: Option<String>,
    },
    /// A field of the request is invalid.
    #[error("`{field}`: {message}")]
    Invalid {
        /// The field, as the caller wrote it.
        field: String,
        /// What is wrong, and what is valid.
        message: String,
    },
    /// A sealed value cannot be opened here.
    #[error("{message}")]
    Sealed {
        /// Why, and the remedy.
        message: String,
    },
    /// The number of matching tasks has changed by more than a tenth since the preview.
    #[error("{now} tasks match now, but {expected} did in the preview: look again")]
    Changed {
        /// The number that was expected.
        expected: usize,
        /// The number now.
        now: usize,
    },
    /// The manager refused or failed.
    #[error(transparent)]
    Task(#[from] Error),
    /// The add was refused or failed.
    #[error(transparent)]
    Add(#[from] AddError),
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        Self::Task(error.into())
    }
}

impl AdminError {
    /// The word for it in the API, such as `not_found` or `not_retryable`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Forbidden { .. } => "forbidden",
            Self::NoTask { .. } | Self::NotFound { .. } | Self::Task(Error::NotFound { .. }) => "not_found",
            Self::Invalid { .. } => "invalid",
            Self::Changed { .. } => "changed",
            Self::Sealed { .. } => "sealed",
            Self::UnknownTask { .. } => "unknown_task",
            Self::Task(error) => match error {
                Error::NotATaskId { .. } => "invalid",
                Error::NotRetryable { .. } => "not_retryable",
                Error::KeyTaken { .. } => "key_taken",
                Error::NotFinished { .. } => "not_ended",
                Error::UnknownQueue { .. } => "unknown_queue",
                Error::UnknownSchedule { .. } => "unknown_schedule",
                Error::EmptyFilter => "empty_filter",
                Error::ScheduleDeclared { .. } => "declared",
                Error::Config { .. } | Error::Timing { .. } => "invalid",
                Error::Add(error) => add_code(error),
                _ => "degraded",
            },
            Self::Add(error) => add_code(error),
        }
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|one| format!("; did you mean `{one}`?")).unwrap_or_default()
}

fn add_code(error: &AddError) -> &'static str {
    match error {
        AddError::QueueFull { .. } => "queue_full",
        AddError::UnknownQueue { .. } => "unknown_queue",
        AddError::Argument { .. } | AddError::Option { .. } => "invalid",
        AddError::TooLarge { .. } => "too_large",
        AddError::Refused { .. } => "refused",
        AddError::Hook { .. } => "hook_failed",
        _ => "degraded",
    }
}
