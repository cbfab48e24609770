//! How much may run at once: in all, of each queue, and on blocking threads.
//!
//! A body has a slot while it runs. The run it belongs to is longer: from its claim until its end is durable. So long it
//! counts against the limits of its queue and against what this process may have claimed in all, which is as many as
//! there are slots, and [`Window`] more.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::ahead::{Bodies, PATIENCE, Window};

/// The slots of this process, for tasks that are claimed as `T`.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    indices: HashMap<Arc<str>, usize>,
    names: Vec<Arc<str>>,
    state: Mutex<State<T>>,
    total: usize,
    /// How many slots synchronous tasks may have, if not all.
    threads: Option<usize>,
    most_ahead: usize,
}

#[derive(Debug)]
struct State<T> {
    /// Slots without a body.
    free: usize,
    /// Runs that are claimed, or being added to run at once, and whose end is not durable.
    runs: usize,
    /// A claim is under way, and every limit was offered to it: what is given back meanwhile is not to be taken twice.
    claiming: bool,
    /// What waits was to go back, and so is what the claim that is under way brings and no slot is free for.
    recalled: bool,
    /// The process ends: nothing is started with what is added.
    closed: bool,
    free_threads: usize,
    queues: Vec<QueueSlots>,
    /// Claimed, and waiting for a slot, each since when.
    ready: VecDeque<(T, Seat, Instant)>,
    window: Window,
    /// Bodies that ended since the last claim was answered.
    ended: Bodies,
    answered: Instant,
}

#[derive(Debug)]
struct QueueSlots {
    name: Arc<str>,
    limit: Option<usize>,
    /// Claims mind limits over all processes.
    shared: bool,
    /// Runs of it.
    taken: usize,
}

impl QueueSlots {
    fn free(&self, of: usize) -> usize {
        self.limit.map_or(of, |limit| limit.saturating_sub(self.taken).min(of))
    }

    fn has_limits(&self) -> bool {
        self.shared || self.limit.is_some()
    }
}

/// The place of one run under the limits. It must be given back exactly once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    queue: usize,
    blocking: bool,
}

/// Room for a claim: every limit, offered until [`Slots::settle`] or [`Slots::undo`].
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) limit: usize,
    /// How many of them synchronous tasks may take.
    pub(crate) threads: usize,
    pub(crate) queues: Vec<(Arc<str>, usize)>,
    asked: Instant,
}

impl<T> Slots<T> {
    /// So many slots, of which synchronous tasks may have so many, and so much that may be claimed ahead.
    pub(crate) fn new(
        total: usize,
        threads: usize,
        most_ahead: usize,
        queues: Vec<(Arc<str>, Option<usize>)>,
    ) -> Self {
        let queues: Vec<_> = queues
            .into_iter()
            .map(|(name, limit)| QueueSlots { name, limit, shared: false, taken: 0 })
            .collect();
        Self {
            indices: queues.iter().enumerate().map(|(index, queue)| (queue.name.clone(), index)).collect(),
            names: queues.iter().map(|queue| queue.name.clone()).collect(),
            state: Mutex::new(State {
                free: total,
                runs: 0,
                claiming: false,
                recalled: false,
                closed: false,
                free_threads: threads,
                queues,
                ready: VecDeque::new(),
                window: Window::new(total, most_ahead),
                ended: Bodies::default(),
                answered: Instant::now(),
            }),
            total,
            threads: (threads < total).then_some(threads),
            most_ahead,
        }
    }

    /// From now on so many tasks of a queue may run here, and claims mind limits over all processes or not. What runs
    /// goes on; what waits for a slot must go back.
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
        let free = if state.claiming || state.closed { 0 } else { state.prompt() };
        if state.queues[index].shared
            || state.queues[index].free(free) == 0
            || state.runs >= self.total.saturating_add(state.ahead(self.most_ahead))
            || (blocking && self.threads.is_some() && state.free_threads == 0)
        {
            return None;
        }
        state.free -= 1;
        Some(state.sit(index, blocking))
    }

    /// The queue of a seat.
    pub(crate) fn queue(&self, seat: Seat) -> Arc<str> {
        self.names[seat.queue].clone()
    }

    /// No slot can be taken from now on.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
    }

    /// How many runs there are, with what may become one: an add or a claim that is under way.
    pub(crate) fn taken(&self) -> usize {
        let state = self.state.lock();
        state.runs + usize::from(state.claiming)
    }

    /// Nothing ran in it.
    pub(crate) fn give_back(&self, seat: Seat) {
        let mut state = self.state.lock();
        state.free += 1;
        state.leave(seat);
    }

    /// A body is over that took so long. Answers what runs next in its slot, unless nothing is to start now.
    pub(crate) fn end_body(&self, took: Duration, start_next: bool) -> Option<(T, Seat)> {
        let mut state = self.state.lock();
        state.ended.add(took);
        let next = if start_next { state.ready.pop_front() } else { None };
        if next.is_none() {
            state.free += 1;
        }
        next.map(|(task, seat, _)| (task, seat))
    }

    /// The ends of these runs are durable.
    pub(crate) fn leave(&self, seats: impl IntoIterator<Item = Seat>) {
        let mut state = self.state.lock();
        for seat in seats {
            state.leave(seat);
        }
    }

    /// Room for a claim: all that is free, and what `leaving` will leave when the same write has ended them.
    pub(crate) fn room(&self, leaving: &[Seat]) -> Room {
        let mut state = self.state.lock();
        for seat in leaving {
            state.leave(*seat);
        }
        state.claiming = true;
        let most = self.total.saturating_add(state.ahead(state.window.size()));
        // Half of it runs while the other half is on its way; without a window, all that is free.
        let limit = most.saturating_sub(state.runs).min(self.total.max(most / 2));
        let queues = state
            .queues
            .iter()
            .map(|queue| (queue.name.clone(), queue.free(limit)))
            .filter(|(_, free)| *free > 0)
            .collect();
        let threads = self.threads.map_or(limit, |_| state.free_threads.min(limit));
        Room { limit, threads, queues, asked: Instant::now() }
    }

    /// The claim failed: `leaving` stay.
    pub(crate) fn undo(&self, leaving: &[Seat]) {
        let mut state = self.state.lock();
        state.claiming = false;
        for seat in leaving {
            state.sit(seat.queue, seat.blocking);
        }
    }

    /// The claim brought these, of which `kind` says the queue and whether they are synchronous. Answers those that begin;
    /// the others wait for a slot.
    pub(crate) fn settle(
        &self,
        room: &Room,
        claimed: Vec<T>,
        kind: impl Fn(&T) -> (&str, bool),
    ) -> Vec<(T, Seat)> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let since = now - std::mem::replace(&mut state.answered, now);
        let ended = std::mem::take(&mut state.ended);
        state.window.measure(ended, since, now - room.asked);
        state.claiming = false;
        for task in claimed {
            let (queue, blocking) = kind(&task);
            let queue = self.indices.get(queue).copied().unwrap_or_default();
            let seat = state.sit(queue, blocking);
            state.ready.push_back((task, seat, now));
        }
        let begin = if state.closed { 0 } else { state.free.min(state.ready.len()) };
        state.free -= begin;
        state.ready.drain(..begin).map(|(task, seat, _)| (task, seat)).collect()
    }

    /// When the first of those that wait for a slot will have waited for too long.
    pub(crate) fn impatient_at(&self) -> Option<Instant> {
        self.state.lock().ready.front().map(|(.., since)| *since + PATIENCE)
    }

    /// What waits for a slot, once the first of it has waited for too long, or at once if all of it is to go back.
    pub(crate) fn take_waiting(&self, all: bool) -> Vec<(T, Seat)> {
        let mut state = self.state.lock();
        state.recalled |= all && state.claiming;
        let late = |since: &Instant| all || since.elapsed() >= PATIENCE;
        if !state.ready.front().is_some_and(|(.., since)| late(since)) {
            return Vec::new();
        }
        state.window.close();
        // Nobody knows when a slot will be free: the younger ones go too.
        state.ready.drain(..).map(|(task, seat, _)| (task, seat)).collect()
    }

    /// Whether what waits was to go back while the last claim was under way. Asked once, after that claim.
    pub(crate) fn were_recalled(&self) -> bool {
        std::mem::take(&mut self.state.lock().recalled)
    }

    /// Whether, by leaving, one of these makes room for what no free slot could take: it was under a limit of its own.
    pub(crate) fn any_scarce(&self, mut seats: impl Iterator<Item = Seat>) -> bool {
        let state = self.state.lock();
        seats.any(|seat| {
            let queue = &state.queues[seat.queue];
            (seat.blocking && self.threads.is_some()) || queue.has_limits()
        })
    }
}

impl<T> State<T> {
    /// How many of so many runs there may be beyond the slots. None beside queues with limits: what waits for a slot would
    /// hold a place under a limit and run nothing, or keep one of theirs waiting.
    fn ahead(&self, of: usize) -> usize {
        if self.queues.iter().any(QueueSlots::has_limits) { 0 } else { of }
    }

    /// How many can start at once.
    fn prompt(&self) -> usize {
        self.free.saturating_sub(self.ready.len())
    }

    fn sit(&mut self, queue: usize, blocking: bool) -> Seat {
        self.runs += 1;
        self.free_threads = self.free_threads.saturating_sub(usize::from(blocking));
        self.queues[queue].taken += 1;
        Seat { queue, blocking }
    }

    fn leave(&mut self, seat: Seat) {
        self.runs -= 1;
        self.free_threads += usize::from(seat.blocking);
        self.queues[seat.queue].taken -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Kind = (&'static str, bool);

    const SOON: Duration = Duration::from_micros(10);

    fn slots(most_ahead: usize) -> Slots<Kind> {
        Slots::new(3, 1, most_ahead, vec![("default".into(), None), ("slow".into(), Some(1))])
    }

    fn settle(slots: &Slots<Kind>, room: &Room, claimed: &[Kind]) -> Vec<Seat> {
        let begin = slots.settle(room, claimed.to_vec(), |kind| *kind);
        begin.into_iter().map(|(_, seat)| seat).collect()
    }

    /// Its body is over, and its end durable.
    fn end(slots: &Slots<Kind>, seat: Seat) {
        assert!(slots.end_body(SOON, true).is_none());
        slots.leave([seat]);
    }

    #[test]
    fn no_limit_is_exceeded_and_every_seat_comes_back() {
        let slots = slots(0);
        let slow = slots.try_take("slow", true).unwrap();
        assert!(slots.try_take("slow", false).is_none(), "its queue is full");
        assert!(slots.try_take("default", true).is_none(), "its threads are taken");
        assert!(slots.try_take("unknown", false).is_none());
        let others = [(); 2].map(|()| slots.try_take("default", false).unwrap());
        assert!(slots.try_take("default", false).is_none(), "all are taken");
        assert_eq!(slots.taken(), 3);
        for seat in others {
            end(&slots, seat);
        }
        slots.give_back(slow);
        assert_eq!(slots.taken(), 0);
        assert_eq!(slots.room(&[]).limit, 3);
    }

    #[test]
    fn without_claiming_ahead_a_slot_is_free_only_when_its_end_is_durable() {
        let slots = slots(0);
        let seats = [(); 3].map(|()| slots.try_take("default", false).unwrap());
        assert!(slots.end_body(SOON, true).is_none());
        assert!(slots.try_take("default", false).is_none(), "its end is not durable");
        let room = slots.room(&seats[..1]);
        assert_eq!(room.limit, 1);
        slots.undo(&seats[..1]);
        slots.leave([seats[0]]);
        assert!(slots.try_take("default", false).is_some());
    }

    #[test]
    fn what_is_given_back_while_a_claim_is_under_way_is_not_taken_twice() {
        let slots = slots(0);
        let other = slots.try_take("default", true).unwrap();
        let room = slots.room(&[]);
        assert_eq!(room.queues, [("default".into(), 2), ("slow".into(), 1)]);
        end(&slots, other);
        assert!(slots.try_take("slow", false).is_none(), "the claim was offered the one slot of this queue");
        let seats = settle(&slots, &room, &[("slow", false)]);
        assert!(slots.try_take("slow", false).is_none());
        end(&slots, seats[0]);
        assert!(slots.try_take("slow", true).is_some());
    }

    #[test]
    fn a_limit_that_shrinks_ends_nothing_and_gives_nothing_until_there_is_room() {
        let slots = slots(0);
        let seats = [(); 3].map(|()| slots.try_take("default", false).unwrap());
        slots.set_limit("default", Some(1), false);
        end(&slots, seats[0]);
        end(&slots, seats[1]);
        assert!(slots.try_take("default", false).is_none(), "one runs still");
        end(&slots, seats[2]);
        assert!(slots.try_take("default", false).is_some());
        assert!(slots.try_take("default", false).is_none());
        slots.set_limit("default", None, true);
        assert!(slots.try_take("default", false).is_none(), "a claim takes it, which minds what others run");
        assert_eq!(slots.room(&[]).queues[0], ("default".into(), 2));
    }

    #[test]
    fn a_claim_may_take_what_its_write_leaves_and_a_failed_one_takes_nothing() {
        let slots = slots(0);
        let slow = slots.try_take("slow", true).unwrap();
        assert!(slots.end_body(SOON, true).is_none());
        let room = slots.room(&[slow]);
        assert_eq!((room.limit, room.threads), (3, 1));
        assert_eq!(room.queues, [("default".into(), 3), ("slow".into(), 1)]);
        assert!(slots.try_take("default", false).is_none(), "the claim has it all");
        slots.undo(&[slow]);
        assert!(slots.try_take("slow", false).is_none(), "it stayed");

        let room = slots.room(&[slow]);
        let seats = settle(&slots, &room, &[("slow", false), ("default", true)]);
        assert_eq!(slots.room(&[]).queues, [("default".into(), 1)]);
        assert_eq!(seats.len(), 2);
    }

    /// As after a round trip in which three bodies ended: twelve more may be claimed.
    fn with_an_open_window() -> Slots<Kind> {
        let slots = Slots::new(3, 3, 20, vec![("default".into(), None), ("other".into(), None)]);
        let mut ended = Bodies::default();
        (0..3).for_each(|_| ended.add(SOON));
        let round_trip = Duration::from_millis(1);
        slots.state.lock().window.measure(ended, round_trip, round_trip);
        slots
    }

    #[test]
    fn more_is_claimed_than_may_run() {
        let slots = with_an_open_window();
        let room = slots.room(&[]);
        assert_eq!(room.limit, 7, "half of all");
        assert_eq!(room.queues, [("default".into(), 7), ("other".into(), 7)]);

        let running = settle(&slots, &room, &[("default", false); 7]);
        assert_eq!(running.len(), 3, "no more bodies than slots");
        assert_eq!(slots.taken(), 7);
        assert!(slots.try_take("default", false).is_none(), "others come first");

        let (_, next) = slots.end_body(SOON, true).unwrap();
        assert!(slots.end_body(SOON, false).is_none(), "nothing is to start");
        slots.leave([running[0], next]);
        assert_eq!(slots.taken(), 5);
    }

    #[test]
    fn beside_a_queue_with_limits_nothing_is_claimed_ahead() {
        let slots = with_an_open_window();
        slots.set_limit("other", Some(2), false);
        assert_eq!(slots.room(&[]).queues, [("default".into(), 3), ("other".into(), 2)]);
        slots.undo(&[]);
        slots.set_limit("other", None, true);
        assert_eq!(slots.room(&[]).limit, 3);
        slots.undo(&[]);
        slots.set_limit("other", None, false);
        assert_eq!(slots.room(&[]).limit, 7);
    }

    #[test]
    fn an_add_takes_the_slot_of_an_end_that_is_not_durable_but_not_beside_limits() {
        let slots = with_an_open_window();
        for _ in 0..3 {
            slots.try_take("default", false).unwrap();
        }
        assert!(slots.end_body(SOON, true).is_none());
        slots.set_limit("other", Some(2), false);
        assert!(slots.try_take("default", false).is_none());
        slots.set_limit("other", None, false);
        assert!(slots.try_take("default", false).is_some());
    }

    #[test]
    fn any_numbers_will_do() {
        let queues = || vec![("default".into(), None)];
        for slots in
            [Slots::<Kind>::new(1, 1, usize::MAX, queues()), Slots::new(usize::MAX, usize::MAX, 1, queues())]
        {
            slots.try_take("default", true).unwrap();
            slots.room(&[]);
        }
    }

    #[test]
    fn what_waits_for_a_slot_can_be_taken_back_and_closes_the_window() {
        let slots = with_an_open_window();
        let room = slots.room(&[]);
        settle(&slots, &room, &[("default", false); 7]);
        assert!(slots.take_waiting(false).is_empty(), "it has not waited for long");
        assert!(slots.impatient_at().is_some());
        let waiting = slots.take_waiting(true);
        assert_eq!(waiting.len(), 4);
        slots.leave(waiting.into_iter().map(|(_, seat)| seat));
        assert_eq!((slots.taken(), slots.impatient_at()), (3, None));
        assert_eq!(slots.room(&[]).limit, 0);
    }
}
