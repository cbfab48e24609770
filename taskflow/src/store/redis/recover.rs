//! Recovers runs and holds whose lease has ended, and cancels tasks that have expired.
//!
//! It takes two steps, because the rules are in Rust: one script finds lost tasks, another recovers them. The second
//! script checks them again. If anything happened in between (a renewal, an end, a request to stop, another process
//! that was faster), the run is left for the next call. A process that dies in between has changed nothing.

use std::sync::Arc;

use super::apply::{self, Offer, Only, Rows};
use super::packed_row::{PackedRow, policy};
use super::script::Call;
use crate::model::TaskId;
use crate::store::{Recovered, transition};

/// The maximum number of lost runs, holds and expired tasks that one call recovers.
pub(super) const RECOVERED_AT_ONCE: usize = 256;

/// The decision about a task that was found.
pub(super) enum Found {
    /// It is recovered, with this result if nothing happened in between.
    Moves(Recovered),
    /// Nothing is done: other programs damaged its lease or its expiry.
    Stays,
    /// Its policy cannot be read.
    Damaged,
}

/// Adds the arguments that recover this task.
pub(super) fn decide(call: &mut Call, id: TaskId, state: &PackedRow<'_>, now: i64) -> Found {
    let Some(policy) = state.policy().and_then(policy) else { return Found::Damaged };
    let from = state.task();
    let Some(change) = transition::recover(&from, &policy, fastrand::f64(), now) else { return Found::Stays };
    let recovered = change.recovered(&from, id, Arc::from(state.name));
    let offer = Offer { from, change, only: Only::Over };
    apply::pack(call, &[offer], &Rows::Under(&[(id, from.fence)]));
    Found::Moves(recovered)
}
