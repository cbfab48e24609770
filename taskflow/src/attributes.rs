//! The attributes, documented where users meet them.

pub use taskflow_macros::{schedule, task};
