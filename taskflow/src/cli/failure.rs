//! Why a command failed, and the exit code that tells it to scripts.

use std::io;
use std::process::ExitCode;

use taskflow::admin::AdminError;
use taskflow::model::{StoreError, StoreErrorKind};
use taskflow::web::AccessError;
use taskflow::{AddError, Error};

pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

/// The exit codes. They are part of the command's interface: `docs/cli.md` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Code {
    Done = 0,
    /// The command failed, or a task that it waited for.
    Failed = 1,
    /// The arguments are wrong, or the command was refused.
    Usage = 2,
    /// There is no such task, queue, schedule, type or operation.
    NotFound = 3,
    /// Nothing matches, or the act is not possible now.
    Nothing = 4,
    /// The store does not answer, or takes no writes now.
    StoreAway = 5,
    /// `status --check` found something.
    Unhealthy = 6,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: Code,
    /// One line for people; empty if everything has been said.
    pub(super) message: String,
    /// Further lines: what to do.
    pub(super) hint: Option<String>,
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(Code::Failed, message)
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    pub(super) fn nothing(message: impl Into<String>) -> Self {
        Self::new(Code::Nothing, message)
    }

    /// Ends the command with that code and no further word.
    pub(super) fn silent(code: Code) -> Self {
        Self::new(code, "")
    }

    /// What to do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The output cannot be written. If its reader has closed the pipe, as `head` does, the command ends without a failure.
    pub(super) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(Code::Done),
            _ => Self::failed(format!("cannot write the output: {error}")),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match error.kind() {
            StoreErrorKind::Unavailable | StoreErrorKind::Unknown | StoreErrorKind::Full => Code::StoreAway,
            StoreErrorKind::Other => Code::Failed,
            _ => Code::Usage,
        };
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let message = match cause.filter(|cause| !error.to_string().contains(cause)) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        Self::new(code, message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::Store(error) => return error.into(),
            Error::Add(error) => return error.into(),
            Error::NotFound { .. } | Error::UnknownSchedule { .. } | Error::UnknownQueue { .. } => {
                Code::NotFound
            }
            Error::NotRetryable { .. } | Error::NotFinished { .. } | Error::KeyTaken { .. } => Code::Nothing,
            Error::ScheduleDeclared { .. } => Code::Nothing,
            Error::ShutDown | Error::NoRuntime => Code::Failed,
            _ => Code::Usage,
        };
        Self::new(code, error.to_string())
    }
}

impl From<AddError> for Failure {
    fn from(error: AddError) -> Self {
        let code = match &error {
            AddError::QueueFull { .. } | AddError::Refused { .. } => Code::Nothing,
            AddError::UnknownQueue { .. } => Code::NotFound,
            AddError::Store(error) => Self::from(error.clone()).code,
            AddError::Unknown { .. } => Code::StoreAway,
            AddError::ShutDown | AddError::Hook { .. } => Code::Failed,
            _ => Code::Usage,
        };
        Self::new(code, error.to_string())
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Task(error) => error.into(),
            AdminError::Add(error) => error.into(),
            AdminError::UnknownTask { .. } => Self::not_found(error.to_string())
                .hint("`--force` adds it nevertheless, for a process that starts later"),
            AdminError::NoTask { .. } | AdminError::NotFound { .. } => Self::not_found(error.to_string()),
            AdminError::Changed { .. } => Self::nothing(error.to_string()),
            error => Self::usage(error.to_string()),
        }
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        Self::usage(error.to_string())
    }
}
