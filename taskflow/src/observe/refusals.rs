//! How many adds were refused, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{AddError, StoreErrorKind};

/// The reasons, in the order in which they are counted.
const REASONS: [&str; 8] =
    ["full", "too_large", "unknown_queue", "store_full", "store", "shut_down", "hook", "invalid"];

/// Counts refused adds.
#[derive(Debug, Default)]
pub(crate) struct Refusals([AtomicU64; REASONS.len()]);

impl Refusals {
    pub(crate) fn count(&self, error: &AddError) {
        let reason = reason(error);
        if let Some(at) = REASONS.iter().position(|known| *known == reason) {
            self.0[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each reason with its count.
    #[cfg(any(test, feature = "api", feature = "metrics"))]
    pub(crate) fn read(&self) -> [(&'static str, u64); REASONS.len()] {
        std::array::from_fn(|at| (REASONS[at], self.0[at].load(Ordering::Relaxed)))
    }
}

/// Why an add was refused: one of few words, for metrics and spans.
pub(crate) fn reason(error: &AddError) -> &'static str {
    match error {
        AddError::QueueFull { .. } => "full",
        AddError::TooLarge { .. } => "too_large",
        AddError::UnknownQueue { .. } => "unknown_queue",
        AddError::Store(error) if error.kind() == StoreErrorKind::Full => "store_full",
        AddError::Store(_) | AddError::Unknown { .. } => "store",
        AddError::ShutDown => "shut_down",
        AddError::Refused { .. } | AddError::Hook { .. } => "hook",
        _ => "invalid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted() {
        let refusals = Refusals::default();
        let size = |what| AddError::TooLarge { what, actual: 2, limit: 1 };
        refusals.count(&size("payload"));
        refusals.count(&AddError::ShutDown);
        refusals.count(&AddError::Refused { reason: "closed".to_owned() });
        refusals.count(&AddError::Hook { hook: "Routes", message: "panicked".to_owned() });
        refusals.count(&AddError::Option { option: "args", message: "no JSON".into() });
        let counted: Vec<_> = refusals.read().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("too_large", 1), ("shut_down", 1), ("hook", 2), ("invalid", 1)]);
    }
}
