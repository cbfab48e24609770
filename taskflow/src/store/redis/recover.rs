//! What becomes of runs and holds whose lease has ended, and of what has expired.
//!
//! In two steps, since the rule is written once, in Rust: one script says what is lost, another moves it on. The
//! second looks again, so whatever happened between (a renewal, an end, a request to stop, another process that was
//! faster) leaves that run to the next look; a process that dies between has done nothing.

use std::sync::Arc;

use super::script::Call;
use super::state::{HELD, State, exact, policy, stage_of};
use crate::model::{TaskId, TaskStatus, time};
use crate::store::{LostRun, Next, Recovered};

/// The most lost runs, holds and expired tasks that one call moves on.
pub(super) const RECOVERED_AT_ONCE: usize = 256;

/// Adds the arguments that move this one on, and answers what it will be if nothing came between; `None`, and nothing added, if
/// its policy cannot be read.
pub(super) fn decide(call: &mut Call, id: TaskId, state: &State<'_>) -> Option<Recovered> {
    let policy = policy(state.policy()?)?;
    let name: Arc<str> = Arc::from(state.name);
    let mut move_on = |kind: u8, stage: u8, delay: i64, counted: bool, error: &str| {
        // What `lose_main.lua` unpacks as `<I8BBBi8B`.
        let mut bytes = Vec::with_capacity(20);
        bytes.extend(state.fence.to_le_bytes());
        bytes.extend([u8::from(state.stop), kind, stage]);
        bytes.extend(exact(delay).to_le_bytes());
        bytes.push(u8::from(counted));
        call.arg(id.as_bytes()).arg(&bytes[..]).arg(error);
    };
    if state.stage < HELD {
        move_on(3, 0, 0, false, Recovered::EXPIRED);
        return Some(Recovered::from_expiry(id, name));
    }
    if state.stage == HELD {
        move_on(0, 0, 0, false, "");
        return Some(Recovered::from_hold(id, name));
    }
    let lost = LostRun::new(&policy, state.attempt, state.max_attempts, state.lost_runs, state.stop);
    Some(match lost.next(fastrand::f64()) {
        Next::Pending { delay, counted } => {
            move_on(1, 0, time::micros(delay), counted, "");
            Recovered::new(id, name, TaskStatus::Pending, None)
        }
        Next::Ended { status, error } => {
            move_on(2, stage_of(status), 0, false, &error);
            Recovered::new(id, name, status, Some(error))
        }
    })
}
