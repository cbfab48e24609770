//! What one run holds of the capacity of this process.

use std::fmt;
use std::mem;
use std::sync::Arc;

/// What one run holds: its place under the limits from its claim until its end is durable, and a slot while its body runs.
///
/// It cannot be copied and gives nothing back twice. When it is dropped it gives back what it still holds, so that no early
/// return, no panic and no future that is dropped loses capacity.
#[must_use = "dropping a permit gives back what it holds"]
pub(crate) struct Permit {
    capacity: Arc<dyn Capacity>,
    place: Place,
    held: Held,
}

/// Which limits a run counts against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) queue: usize,
    pub(super) blocking: bool,
}

/// What a permit still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// A slot, and its place under the limits.
    Slot,
    /// Its place under the limits.
    Place,
    Nothing,
}

/// The owner of the capacity that permits hold.
pub(super) trait Capacity: Send + Sync {
    /// Takes back what a dropped permit still held.
    fn take_back(&self, place: Place, held: Held);
}

impl Permit {
    pub(super) fn new(capacity: Arc<dyn Capacity>, place: Place, held: Held) -> Self {
        Self { capacity, place, held }
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Takes the slot out of the permit, if it has one. Returns whether it had one.
    pub(super) fn release_slot(&mut self) -> bool {
        let has_slot = self.held == Held::Slot;
        if has_slot {
            self.held = Held::Place;
        }
        has_slot
    }

    /// Takes everything out of the permit, and returns what that was.
    pub(super) fn release(&mut self) -> Held {
        mem::replace(&mut self.held, Held::Nothing)
    }

    /// Puts the place back into a permit that holds nothing. Returns whether it did.
    pub(super) fn restore(&mut self) -> bool {
        let is_empty = self.held == Held::Nothing;
        if is_empty {
            self.held = Held::Place;
        }
        is_empty
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        match self.release() {
            Held::Nothing => {}
            held => self.capacity.take_back(self.place, held),
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("place", &self.place).field("held", &self.held).finish_non_exhaustive()
    }
}
