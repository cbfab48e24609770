//! How much may run at once: in all, of each queue, and on blocking threads.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The slots of this process.
#[derive(Debug)]
pub(crate) struct Slots {
    indices: HashMap<Arc<str>, usize>,
    names: Vec<Arc<str>>,
    state: Mutex<State>,
    total: usize,
    threads: usize,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// A claim is under way, and every limit was offered to it: what is given back meanwhile is not to be taken twice.
    claiming: bool,
    /// The process ends: nothing is started with what is added.
    closed: bool,
    free_threads: usize,
    queues: Vec<QueueSlots>,
}

#[derive(Debug)]
struct QueueSlots {
    name: Arc<str>,
    limit: Option<usize>,
    /// Claims mind limits over all processes.
    shared: bool,
    taken: usize,
}

impl QueueSlots {
    fn free(&self, of: usize) -> usize {
        self.limit.map_or(of, |limit| limit.saturating_sub(self.taken).min(of))
    }
}

/// One slot, taken. It must be given back exactly once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    queue: usize,
    blocking: bool,
}

/// Room for a claim: every slot that was free, taken until [`Slots::settle`].
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) limit: usize,
    /// How many of them synchronous tasks may take.
    pub(crate) threads: usize,
    pub(crate) queues: Vec<(Arc<str>, usize)>,
}

impl Slots {
    pub(crate) fn new(total: usize, threads: usize, queues: Vec<(Arc<str>, Option<usize>)>) -> Self {
        let queues: Vec<_> = queues
            .into_iter()
            .map(|(name, limit)| QueueSlots { name, limit, shared: false, taken: 0 })
            .collect();
        Self {
            indices: queues.iter().enumerate().map(|(index, queue)| (queue.name.clone(), index)).collect(),
            names: queues.iter().map(|queue| queue.name.clone()).collect(),
            state: Mutex::new(State {
                free: total,
                claiming: false,
                closed: false,
                free_threads: threads,
                queues,
            }),
            total,
            threads,
        }
    }

    /// From now on so many tasks of a queue may run here, and claims mind limits over all processes or not. What runs
    /// goes on.
    pub(crate) fn set_limit(&self, queue: &str, limit: Option<usize>, shared: bool) {
        let Some(index) = self.indices.get(queue) else { return };
        let queue = &mut self.state.lock().queues[*index];
        (queue.limit, queue.shared) = (limit, shared);
    }

    /// A slot for a task of that queue, if one is free. Queues that do not run here have none, and of those with limits
    /// over all processes only a claim takes slots.
    pub(crate) fn try_take(&self, queue: &str, blocking: bool) -> Option<Seat> {
        let index = *self.indices.get(queue)?;
        let mut state = self.state.lock();
        let free = if state.claiming || state.closed { 0 } else { state.free };
        if state.queues[index].shared
            || state.queues[index].free(free) == 0
            || (blocking && state.free_threads == 0)
        {
            return None;
        }
        state.free -= 1;
        state.free_threads -= usize::from(blocking);
        state.queues[index].taken += 1;
        Some(Seat { queue: index, blocking })
    }

    /// The queue of a seat.
    pub(crate) fn queue(&self, seat: Seat) -> Arc<str> {
        self.names[seat.queue].clone()
    }

    /// No slot can be taken from now on.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
    }

    /// How many are taken, by runs and by what may become one: an add or a claim that is under way.
    pub(crate) fn taken(&self) -> usize {
        self.total - self.state.lock().free
    }

    pub(crate) fn give_back(&self, seat: Seat) {
        self.give_back_all([seat]);
    }

    pub(crate) fn give_back_all(&self, seats: impl IntoIterator<Item = Seat>) {
        let mut state = self.state.lock();
        for seat in seats {
            state.free += 1;
            state.leave(seat);
        }
    }

    /// Room for a claim: all that is free, and what `leaving` will leave when the same write has ended them.
    pub(crate) fn room(&self, leaving: &[Seat]) -> Room {
        let mut state = self.state.lock();
        for seat in leaving {
            state.leave(*seat);
        }
        let limit = std::mem::take(&mut state.free) + leaving.len();
        state.claiming = true;
        let queues = state
            .queues
            .iter()
            .map(|queue| (queue.name.clone(), queue.free(limit)))
            .filter(|(_, free)| *free > 0)
            .collect();
        Room { limit, threads: state.free_threads.min(limit), queues }
    }

    /// The claim failed: `leaving` stay, everything else is free again.
    pub(crate) fn undo(&self, room: &Room, leaving: &[Seat]) {
        let mut state = self.state.lock();
        state.free += room.limit - leaving.len();
        state.claiming = false;
        for seat in leaving {
            state.queues[seat.queue].taken += 1;
            state.free_threads = state.free_threads.saturating_sub(usize::from(seat.blocking));
        }
    }

    /// The claim brought these (queue and kind of each): they take their slots, the rest of the room is free again.
    pub(crate) fn settle<'a>(
        &self,
        room: &Room,
        claimed: impl Iterator<Item = (&'a str, bool)>,
    ) -> Vec<Seat> {
        let mut state = self.state.lock();
        let seats: Vec<_> = claimed
            .map(|(queue, blocking)| {
                let queue = self.indices.get(queue).copied().unwrap_or_default();
                state.queues[queue].taken += 1;
                state.free_threads = state.free_threads.saturating_sub(usize::from(blocking));
                Seat { queue, blocking }
            })
            .collect();
        state.free += room.limit.saturating_sub(seats.len());
        state.claiming = false;
        seats
    }

    /// Whether, by leaving, one of these makes room for what no free slot could take: it was under a limit of its own.
    pub(crate) fn any_scarce(&self, mut seats: impl Iterator<Item = Seat>) -> bool {
        let state = self.state.lock();
        seats.any(|seat| {
            let queue = &state.queues[seat.queue];
            (seat.blocking && self.threads < self.total) || queue.limit.is_some() || queue.shared
        })
    }
}

impl State {
    fn leave(&mut self, seat: Seat) {
        self.free_threads += usize::from(seat.blocking);
        self.queues[seat.queue].taken -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots {
        Slots::new(3, 1, vec![("default".into(), None), ("slow".into(), Some(1))])
    }

    #[test]
    fn no_limit_is_exceeded_and_every_seat_comes_back() {
        let slots = slots();
        let slow = slots.try_take("slow", true).unwrap();
        assert!(slots.try_take("slow", false).is_none(), "its queue is full");
        assert!(slots.try_take("default", true).is_none(), "its threads are taken");
        assert!(slots.try_take("unknown", false).is_none());
        let others = [(); 2].map(|()| slots.try_take("default", false).unwrap());
        assert!(slots.try_take("default", false).is_none(), "all are taken");
        for seat in others.into_iter().chain([slow]) {
            slots.give_back(seat);
        }
        assert_eq!(slots.room(&[]).limit, 3);
    }

    #[test]
    fn what_is_given_back_while_a_claim_is_under_way_is_not_taken_twice() {
        let slots = slots();
        let other = slots.try_take("default", true).unwrap();
        let room = slots.room(&[]);
        assert_eq!(room.queues, [("default".into(), 2), ("slow".into(), 1)]);
        slots.give_back(other);
        assert!(slots.try_take("slow", false).is_none(), "the claim was offered the one slot of this queue");
        let seats = slots.settle(&room, [("slow", false)].into_iter());
        assert!(slots.try_take("slow", false).is_none());
        slots.give_back(seats[0]);
        assert!(slots.try_take("slow", true).is_some());
    }

    #[test]
    fn a_limit_that_shrinks_ends_nothing_and_gives_nothing_until_there_is_room() {
        let slots = slots();
        let seats = [(); 3].map(|()| slots.try_take("default", false).unwrap());
        slots.set_limit("default", Some(1), false);
        slots.give_back(seats[0]);
        slots.give_back(seats[1]);
        assert!(slots.try_take("default", false).is_none(), "one runs still");
        slots.give_back(seats[2]);
        assert!(slots.try_take("default", false).is_some());
        assert!(slots.try_take("default", false).is_none());
        slots.set_limit("default", None, true);
        assert!(slots.try_take("default", false).is_none(), "a claim takes it, which minds what others run");
        assert_eq!(slots.room(&[]).queues[0], ("default".into(), 2));
    }

    #[test]
    fn a_claim_may_take_what_its_write_leaves_and_a_failed_one_takes_nothing() {
        let slots = slots();
        let slow = slots.try_take("slow", true).unwrap();
        let room = slots.room(&[slow]);
        assert_eq!((room.limit, room.threads), (3, 1));
        assert_eq!(room.queues, [("default".into(), 3), ("slow".into(), 1)]);
        assert!(slots.try_take("default", false).is_none(), "the claim has it all");
        slots.undo(&room, &[slow]);
        assert!(slots.try_take("slow", false).is_none(), "it stayed");

        let room = slots.room(&[slow]);
        let seats = slots.settle(&room, [("slow", false), ("default", true)].into_iter());
        assert_eq!(slots.room(&[]).queues, [("default".into(), 1)]);
        assert_eq!(seats.len(), 2);
    }
}
