//! The error type of the commands.

/// Why a command failed.
pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;
