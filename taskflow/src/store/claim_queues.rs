//! The queues of a claim, and their limits over all processes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{QueueConfig, RateLimit};

/// Limits of one queue over all processes together. They are part of the request because the claiming process knows the
/// configuration of its program and the stored one. The store makes them hold against every other process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedLimits {
    /// At most this many of its tasks run at once.
    pub global_concurrency: Option<usize>,
    /// At most this many of its tasks with the same concurrency key run at once.
    pub key_concurrency: Option<usize>,
    /// How often its tasks may start; see [`StartWindow`](super::StartWindow).
    pub rate_limit: Option<RateLimit>,
}

impl SharedLimits {
    /// The shared limits of a queue configuration.
    #[must_use]
    pub fn of(config: &QueueConfig) -> Self {
        Self {
            global_concurrency: config.global_concurrency,
            key_concurrency: config.key_concurrency,
            rate_limit: config.rate_limit,
        }
    }

    /// Whether any limit is set.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// A queue from which a [`Claim`](super::Claim) takes tasks, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimQueue {
    /// The queue.
    pub name: Arc<str>,
    /// The most tasks that the instance can take from it now. It may be more than [`Claim::limit`](super::Claim::limit).
    pub limit: usize,
    /// Whether its tasks may be prefetched. They may not if a task that waits in the instance would use up a limit of
    /// the queue.
    pub prefetch: bool,
    /// The limits of the queue over all processes together.
    pub shared: SharedLimits,
}

impl ClaimQueue {
    /// A queue whose tasks may be prefetched, without limits over all processes.
    #[must_use]
    pub fn new(name: Arc<str>, limit: usize) -> Self {
        Self { name, limit, prefetch: true, shared: SharedLimits::default() }
    }
}

/// The queues of a [`Claim`](super::Claim), each once.
///
/// *Room* in a queue is the number of its tasks that the instance can take now. An instance may serve thousands of queues,
/// and most are empty. So the claims of an instance share one list of the queues with their limits, and each claim keeps
/// only the rooms that are smaller than the limits. A clone costs next to nothing. A store should look up the queues that
/// have due tasks with [`get`](Self::get), instead of going through all queues.
#[derive(Clone, Debug)]
pub struct ClaimQueues {
    served: Arc<Served>,
    /// The room in each queue that has less room than its limit, by the place of the queue in the list.
    room: HashMap<usize, usize>,
}

/// The queues that an instance serves, with their limits.
#[derive(Debug)]
struct Served {
    queues: Vec<ClaimQueue>,
    places: HashMap<Arc<str>, usize>,
    /// The number of queues whose limit is not 0.
    open: usize,
}

impl ClaimQueues {
    /// These queues. If several have the same name, the first counts.
    #[must_use]
    pub fn new(queues: Vec<ClaimQueue>) -> Self {
        let mut served = Served { queues: Vec::with_capacity(queues.len()), places: HashMap::new(), open: 0 };
        for queue in queues {
            let place = served.queues.len();
            if !served.places.contains_key(&queue.name) {
                served.places.insert(Arc::clone(&queue.name), place);
                served.open += usize::from(queue.limit > 0);
                served.queues.push(queue);
            }
        }
        Self { served: Arc::new(served), room: HashMap::new() }
    }

    /// How many queues there are, those without room included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.served.queues.len()
    }

    /// Whether there is no queue.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.served.queues.is_empty()
    }

    /// Whether there is room in any queue.
    #[must_use]
    pub fn have_room(&self) -> bool {
        self.room.values().filter(|room| **room == 0).count() < self.served.open
    }

    /// The queue of that name, if it is one of these.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<ClaimQueue> {
        self.served.places.get(name).map(|place| self.at(*place))
    }

    /// All queues, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = ClaimQueue> {
        (0..self.len()).map(|place| self.at(place))
    }

    /// Lowers the room in a queue to `room`. If the queue has no more room than that, nothing changes.
    pub fn lower(&mut self, name: &str, room: usize) {
        if let Some(place) = self.served.places.get(name) {
            self.lower_at(*place, room);
        }
    }

    /// Lowers the room in a queue by one task.
    pub(crate) fn take(&mut self, name: &str) {
        let Some(place) = self.served.places.get(name) else { return };
        let limit = self.served.queues[*place].limit;
        // Queues whose limit is 0 do not count as `open`.
        if limit > 0 {
            let room = self.room.entry(*place).or_insert(limit);
            *room = room.saturating_sub(1);
        }
    }

    pub(crate) fn lower_at(&mut self, place: usize, room: usize) {
        if room < self.room_at(place) {
            self.room.insert(place, room);
        }
    }

    fn room_at(&self, place: usize) -> usize {
        self.room.get(&place).copied().unwrap_or(self.served.queues[place].limit)
    }

    fn at(&self, place: usize) -> ClaimQueue {
        ClaimQueue { limit: self.room_at(place), ..self.served.queues[place].clone() }
    }

    /// Whether these are the queues of another claim, with the same limits; the room may differ.
    #[cfg(feature = "redis")]
    pub(crate) fn are_those_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.served, &other.served)
    }

    /// All queues with their limits, regardless of the room that is left.
    #[cfg(feature = "redis")]
    pub(crate) fn served(&self) -> &[ClaimQueue] {
        &self.served.queues
    }

    /// The queues in which there is less room than their limit.
    #[cfg(feature = "redis")]
    pub(crate) fn lowered(&self) -> impl Iterator<Item = ClaimQueue> {
        self.room.keys().map(|place| self.at(*place))
    }
}

impl From<Vec<ClaimQueue>> for ClaimQueues {
    fn from(queues: Vec<ClaimQueue>) -> Self {
        Self::new(queues)
    }
}

impl FromIterator<ClaimQueue> for ClaimQueues {
    fn from_iter<I: IntoIterator<Item = ClaimQueue>>(queues: I) -> Self {
        Self::new(queues.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_only_shrinks_and_the_list_is_shared() {
        let queue = |name: &str, limit| ClaimQueue::new(name.into(), limit);
        let all = ClaimQueues::new(vec![queue("mail", 2), queue("closed", 0), queue("mail", 9)]);
        assert_eq!((all.len(), all.get("mail").map(|queue| queue.limit)), (2, Some(2)));

        let mut taken = all.clone();
        taken.take("mail");
        taken.take("closed");
        taken.take("of nobody");
        assert_eq!(taken.get("mail").map(|queue| queue.limit), Some(1));
        assert!(taken.have_room());
        taken.lower("mail", 5);
        assert_eq!(taken.get("mail").map(|queue| queue.limit), Some(1), "room never grows");
        taken.take("mail");
        taken.take("mail");
        assert!(!taken.have_room(), "{taken:?}");
        assert!(all.have_room(), "a clone has its own room");
    }
}
