//! Which processes seem to be dead, as this one sees it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::liveness::SILENCE;
use crate::model::InstanceId;

/// How often one process looks at the signs of the others, if there are few.
const LOOK: Duration = Duration::from_millis(200);

/// All processes together look so often where there are many: one that notices is enough.
const SHARE: Duration = Duration::from_millis(50);

/// Between two looks, at least.
const PAUSE: Duration = Duration::from_millis(25);

/// What a look saw of one process.
#[derive(Clone, Debug)]
pub(crate) struct Seen<S> {
    pub(crate) instance: InstanceId,
    /// Which sign it is: each time a process shows its sign it is another.
    pub(crate) sign: S,
    pub(crate) is_there: bool,
}

/// The processes whose signs were not there when they were last looked at.
#[derive(Debug)]
pub(crate) struct Suspects<S>(Mutex<State<S>>);

#[derive(Debug)]
struct State<S> {
    by_instance: HashMap<InstanceId, Suspect<S>>,
    /// When to look at all signs again; `None` while no other process shows one.
    next: Option<Instant>,
}

#[derive(Debug)]
struct Suspect<S> {
    sign: S,
    since: Instant,
}

impl<S> Default for Suspects<S> {
    fn default() -> Self {
        Self(Mutex::new(State { by_instance: HashMap::new(), next: None }))
    }
}

impl<S: Clone + PartialEq> Suspects<S> {
    /// Whether to look at the signs now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let state = self.0.lock();
        state.next.is_none_or(|next| now >= next) || state.by_instance.values().any(|it| it.is_ripe(now))
    }

    /// When to look again, from now on; `None` if nobody else shows a sign.
    pub(crate) fn look_again_in(&self, now: Instant) -> Option<Duration> {
        let state = self.0.lock();
        let ripe = state.by_instance.values().map(|suspect| suspect.since + SILENCE);
        let next = ripe.chain(state.next).min()?;
        Some(next.saturating_duration_since(now).max(PAUSE))
    }

    /// Takes note of a look at the signs of all other processes, which was asked for and answered at these instants. Answers
    /// which have shown none for long enough.
    ///
    /// A suspect is cleared when it shows another sign, and not when its old one seems to be there: a look of somebody else's
    /// can seem to be a sign, and whoever shows a sign again makes it another. So two looks are enough, however far apart.
    pub(crate) fn note(&self, asked: Instant, answered: Instant, seen: Vec<Seen<S>>) -> Vec<Seen<S>> {
        let mut state = self.0.lock();
        let others = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        state.next = (others > 0).then(|| answered + LOOK.max(SHARE.saturating_mul(others)));
        let mut before = std::mem::take(&mut state.by_instance);
        let mut dead = Vec::new();
        for seen in seen {
            let known = before.remove(&seen.instance).filter(|suspect| suspect.sign == seen.sign);
            let suspect = match known {
                Some(suspect) => suspect,
                None if seen.is_there => continue,
                None => Suspect { sign: seen.sign.clone(), since: answered },
            };
            let is_ripe = suspect.is_ripe(asked);
            state.by_instance.insert(seen.instance, suspect);
            if is_ripe && !seen.is_there {
                dead.push(seen);
            }
        }
        dead
    }

    /// It has been dealt with.
    pub(crate) fn forget(&self, instance: InstanceId) {
        self.0.lock().by_instance.remove(&instance);
    }
}

impl<S> Suspect<S> {
    fn is_ripe(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= SILENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(instance: InstanceId, sign: u8, is_there: bool) -> Vec<Seen<u8>> {
        vec![Seen { instance, sign, is_there }]
    }

    #[test]
    fn a_process_is_dead_when_two_looks_apart_by_the_silence_miss_the_same_sign() {
        let (suspects, id, start) = (Suspects::default(), InstanceId::new(), Instant::now());
        let look = |at: Duration, sign, is_there| {
            suspects.note(start + at, start + at, seen(id, sign, is_there)).len()
        };
        assert_eq!(look(Duration::ZERO, 1, false), 0);
        assert_eq!(look(SILENCE / 2, 1, false), 0);
        // Somebody else's look at the same moment.
        assert_eq!(look(SILENCE * 3 / 4, 1, true), 0);
        assert_eq!(look(SILENCE, 1, false), 1);
        suspects.forget(id);
        assert_eq!(look(SILENCE, 1, false), 0);
    }

    #[test]
    fn a_process_that_showed_its_sign_again_between_two_looks_is_not_dead() {
        let (suspects, id, start) = (Suspects::default(), InstanceId::new(), Instant::now());
        assert!(suspects.note(start, start, seen(id, 1, false)).is_empty());
        let late = start + SILENCE * 10;
        assert!(suspects.note(late, late, seen(id, 2, false)).is_empty());
        assert!(suspects.note(late, late, Vec::new()).is_empty());
        assert!(suspects.note(late + SILENCE, late + SILENCE, seen(id, 2, false)).is_empty());
    }

    #[test]
    fn a_suspect_is_looked_at_again_at_the_very_moment() {
        let (suspects, id, start) = (Suspects::default(), InstanceId::new(), Instant::now());
        assert_eq!(suspects.look_again_in(start), None);
        suspects.note(start, start, seen(id, 1, true));
        assert_eq!(suspects.look_again_in(start), Some(LOOK));
        suspects.note(start, start, seen(id, 1, false));
        let late = start + SILENCE - LOOK / 2;
        suspects.note(late, late, seen(id, 1, false));
        assert_eq!(suspects.look_again_in(late), Some(LOOK / 2));
        assert!(!suspects.is_due(late) && suspects.is_due(start + SILENCE));
    }

    #[test]
    fn many_processes_share_the_looks() {
        let (suspects, start) = (Suspects::default(), Instant::now());
        let many = (0..100).flat_map(|_| seen(InstanceId::new(), 1, true)).collect();
        suspects.note(start, start, many);
        assert_eq!(suspects.look_again_in(start), Some(Duration::from_secs(5)));
    }
}
