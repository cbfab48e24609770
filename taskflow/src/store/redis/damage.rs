//! Damaged data: tasks that cannot be read, and the repairs of this process.

use std::sync::atomic::AtomicBool;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::packed_row::{Body, PackedRow, RUNNING, policy};
use crate::model::TaskId;

/// The repairs of this process, one at a time.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    /// When the data that scripts meet first was last checked.
    pub(super) first: Mutex<Option<Instant>>,
    /// When everything was last checked.
    pub(super) all: Mutex<Option<Instant>>,
    /// Everything is being checked in the background.
    pub(super) is_behind: AtomicBool,
    pub(super) checked: parking_lot::Mutex<Option<Instant>>,
}

/// A task that cannot be read completely.
#[derive(Debug)]
pub(super) struct Damaged {
    pub(super) id: TaskId,
    /// The fence of the run to end, if only that run may be ended.
    pub(super) fence: Option<u64>,
    pub(super) why: &'static str,
    /// Whether its queue or name cannot be read.
    pub(super) ready_list: bool,
    /// Its body, as far as it can be read; empty if all of it can.
    pub(super) body: Vec<u8>,
}

impl Damaged {
    pub(super) fn of(id: TaskId, state: Option<&PackedRow<'_>>) -> Self {
        let fence = state.map(|state| state.fence).filter(|_| state.is_some_and(|it| it.stage == RUNNING));
        let Some(state) = state else {
            let why = "its queue, name or key is not text";
            return Self { id, fence: None, why, ready_list: true, body: Vec::new() };
        };
        let sound = |why| Self { id, fence, why, ready_list: false, body: Vec::new() };
        match Body::unpack(state.body) {
            // The body may be whole, or only its policy was asked for.
            _ if state.policy().is_some_and(|json| policy(json).is_none()) => {
                sound("its policy cannot be read")
            }
            None if state.policy().is_none() => {
                Self { body: Body::salvage(state.body), ..sound("its policy is not text") }
            }
            None => Self { body: Body::salvage(state.body), ..sound("its tags or arguments are not text") },
            Some(_) => sound("it does not belong to what was claimed"),
        }
    }
}
