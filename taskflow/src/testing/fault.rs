//! Faults of a store.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Length;
use crate::model::StoreErrorKind;
use crate::store::StoreCall;

/// A group of store calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Op {
    /// Every call.
    Any,
    /// Every call that writes.
    Write,
    /// The adds.
    Insert,
    /// The claims of due tasks. A claim may share its call with the results of ended runs.
    Claim,
    /// The results of ended runs. They may share their call with a claim.
    Finish,
    /// The ends of holds: held tasks are released or cancelled. They may share their call with the results of ended runs and
    /// with a claim.
    Release,
    /// The progress and log lines of running tasks.
    Report,
    /// The renewal of leases.
    Renew,
    /// The recovery of lost runs.
    Recover,
    /// The ticks of schedules.
    Fire,
    /// Everything that an operator does: cancel, retry, delete, pause, and the settings of queues and schedules.
    Control,
    /// The reads.
    Read,
    /// A process that joins or leaves, and the call that creates or upgrades the tables.
    Join,
}

/// The groups to which one call belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) ops: &'static [Op],
    pub(super) writes: bool,
}

impl Call {
    /// The groups of a store's call.
    pub(super) fn of(call: StoreCall) -> Self {
        let ops: &[Op] = match call.name {
            "migrate" | "join" | "leave" => &[Op::Join],
            "insert" => &[Op::Insert],
            "claim" => &[Op::Claim],
            "finish" => &[Op::Finish],
            "turn" => &[Op::Finish, Op::Claim],
            "release" => &[Op::Release],
            "release_and_turn" => &[Op::Release, Op::Finish, Op::Claim],
            "report" => &[Op::Report],
            "renew" => &[Op::Renew],
            "recover" => &[Op::Recover],
            "fire" => &[Op::Fire],
            "prune" | "write_documents" => &[],
            _ if call.writes => &[Op::Control],
            _ => &[Op::Read],
        };
        Self { ops, writes: call.writes }
    }

    fn is(self, op: Op) -> bool {
        match op {
            Op::Any => true,
            Op::Write => self.writes,
            op => self.ops.contains(&op),
        }
    }
}

/// A fault of a store: what goes wrong, in which calls, and how often.
///
/// ```
/// use taskflow::testing::{Fault, Op};
///
/// let twice = Fault::error(Op::Finish).times(2);
/// let slow = Fault::delay(Op::Claim, "3s");
/// # let _ = (twice, slow);
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    op: Op,
    effect: Effect,
    /// `None` until the faults are cleared.
    times: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    /// The call is refused, and nothing is done.
    Refuse(StoreErrorKind, &'static str),
    /// The call is done, and its answer is lost.
    LoseAnswer,
    /// The call is done later.
    Delay(Duration),
    /// The call is done, and its answer comes later.
    LateAnswer(Duration),
}

impl Fault {
    fn new(op: Op, effect: Effect, times: Option<u64>) -> Self {
        Self { op, effect, times }
    }

    /// The next such call fails before anything is written.
    #[must_use]
    pub fn error(op: Op) -> Self {
        Self::new(op, Effect::Refuse(StoreErrorKind::Unavailable, "the test refuses this call"), Some(1))
    }

    /// The next such call is done, but its caller gets an error: the answer is lost.
    #[must_use]
    pub fn lose_answer(op: Op) -> Self {
        Self::new(op, Effect::LoseAnswer, Some(1))
    }

    /// The next such call is done after that time. [`TestTasks`](super::TestTasks) measures the time by its own clock, a
    /// [`FaultyStore`](super::FaultyStore) by the system's.
    #[must_use]
    pub fn delay(op: Op, length: impl Length) -> Self {
        Self::new(op, Effect::Delay(length.length()), Some(1))
    }

    /// The next such call is done at once, and its caller waits that long for the answer. A lease in the answer may have
    /// ended by then.
    #[must_use]
    pub fn late_answer(op: Op, length: impl Length) -> Self {
        Self::new(op, Effect::LateAnswer(length.length()), Some(1))
    }

    /// The store cannot be reached, until the faults are cleared.
    #[must_use]
    pub fn away() -> Self {
        Self::new(Op::Any, Effect::Refuse(StoreErrorKind::Unavailable, "the test took the store away"), None)
    }

    /// The disk of the store is full: it refuses all writes until the faults are cleared, and reads go on.
    #[must_use]
    pub fn full_disk() -> Self {
        Self::new(Op::Write, Effect::Refuse(StoreErrorKind::Full, "the test filled the disk"), None)
    }

    /// Every write takes that long, until the faults are cleared.
    #[must_use]
    pub fn slow_disk(length: impl Length) -> Self {
        Self::new(Op::Write, Effect::Delay(length.length()), None)
    }

    /// How many calls have the fault.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// All calls have the fault, until the faults are cleared.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }
}

/// What happens to one call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Happens {
    pub(super) delay: Duration,
    pub(super) late: Duration,
    pub(super) end: Option<Effect>,
}

/// The faults that a store has now.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<Vec<Fault>>>);

impl Faults {
    pub(super) fn add(&self, fault: Fault) {
        self.0.lock().push(fault);
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// What happens to this call: at most one delay, one delay of its answer, and one refusal or lost answer.
    pub(super) fn of(&self, call: Call) -> Happens {
        let mut faults = self.0.lock();
        let Happens { mut delay, mut late, mut end } = Happens::default();
        for fault in faults.iter_mut().filter(|fault| call.is(fault.op) && fault.times != Some(0)) {
            match fault.effect {
                Effect::Delay(length) if delay.is_zero() => delay = length,
                Effect::LateAnswer(length) if late.is_zero() => late = length,
                effect @ (Effect::Refuse(..) | Effect::LoseAnswer) if end.is_none() => end = Some(effect),
                _ => continue,
            }
            fault.times = fault.times.map(|times| times - 1);
        }
        faults.retain(|fault| fault.times != Some(0));
        Happens { delay, late, end }
    }
}
