//! What becomes of runs and holds whose lease has ended, and of what has expired.
//!
//! In two steps, since the rules are in Rust: one script says what is lost, another moves it on. The
//! second looks again, so whatever happened between (a renewal, an end, a request to stop, another process that was
//! faster) leaves that run to the next look; a process that dies between has done nothing.

use std::sync::Arc;

use super::apply::{self, Offer, Only, Rows};
use super::packed_row::{PackedRow, policy};
use super::script::Call;
use crate::model::TaskId;
use crate::store::{Recovered, transition};

/// The most lost runs, holds and expired tasks that one call moves on.
pub(super) const RECOVERED_AT_ONCE: usize = 256;

/// What is to be done about a task that was found.
pub(super) enum Found {
    /// It is moved on; this is what it will be if nothing came between.
    Moves(Recovered),
    /// Nothing: other hands wrote down that it has a lease or expires.
    Stays,
    /// Its policy cannot be read.
    Damaged,
}

/// Adds the arguments that move this one on.
pub(super) fn decide(call: &mut Call, id: TaskId, state: &PackedRow<'_>, now: i64) -> Found {
    let Some(policy) = state.policy().and_then(policy) else { return Found::Damaged };
    let from = state.task();
    let Some(change) = transition::recover(&from, &policy, fastrand::f64(), now) else { return Found::Stays };
    let recovered = change.recovered(&from, id, Arc::from(state.name));
    let offer = Offer { from, change, only: Only::Over };
    apply::pack(call, &[offer], &Rows::Under(&[(id, from.fence)]));
    Found::Moves(recovered)
}
