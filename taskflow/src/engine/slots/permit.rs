//! The permit of one run: its share of this process's capacity.

use std::fmt;
use std::mem;
use std::sync::Arc;

/// The capacity that one run holds: a place under the limits from its claim until its result has been stored, and a slot
/// while its body runs.
///
/// A permit cannot be copied and returns nothing twice. When it is dropped it returns what it still holds, so that an
/// early return, a panic or a dropped future loses no capacity.
#[must_use = "dropping a permit gives back what it holds"]
pub(crate) struct Permit {
    capacity: Arc<dyn Capacity>,
    place: Place,
    held: Held,
}

/// The limits that a run counts against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) queue: usize,
    pub(super) blocking: bool,
}

/// What a permit still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// A slot and a place under the limits.
    Slot,
    /// A place under the limits.
    Place,
    Nothing,
}

/// The capacity that permits are taken from.
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

    /// Releases the slot, and returns whether there was one.
    pub(super) fn release_slot(&mut self) -> bool {
        let has_slot = self.held == Held::Slot;
        if has_slot {
            self.held = Held::Place;
        }
        has_slot
    }

    /// Releases everything the permit holds, and returns it.
    pub(super) fn release(&mut self) -> Held {
        mem::replace(&mut self.held, Held::Nothing)
    }

    /// Restores the place if the permit holds nothing, and returns whether it did.
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
