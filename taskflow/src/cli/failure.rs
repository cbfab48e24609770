//! What a command that cannot go on says.

/// Why it cannot go on.
pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;
