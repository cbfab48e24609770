//! The error type of the bench.

/// Why a bench failed.
pub(in crate::cli) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(in crate::cli) type Result<T, E = Failure> = std::result::Result<T, E>;
