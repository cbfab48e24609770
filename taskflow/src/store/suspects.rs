//! The other processes that this process suspects to be dead.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::liveness::SILENCE;
use crate::model::InstanceId;

/// How often a process checks the liveness of the others, if there are few of them.
const CHECK_EVERY: Duration = Duration::from_millis(200);

/// With many processes, each checks more rarely, so that all together make about one check in this time. It is enough that
/// one process notices a death.
const SHARED_CHECK_EVERY: Duration = Duration::from_millis(50);

/// The shortest time between two checks of one process.
const MIN_PAUSE: Duration = Duration::from_millis(25);

/// The result of a check for one process.
#[derive(Clone, Debug)]
pub(crate) struct Seen<S> {
    pub(crate) instance: InstanceId,
    /// Identifies one show of liveness: it is different each time the process shows its liveness again.
    pub(crate) sign: S,
    pub(crate) is_there: bool,
}

/// The processes whose liveness was missing at the last check.
#[derive(Debug)]
pub(crate) struct Suspects<S>(Mutex<State<S>>);

#[derive(Debug)]
struct State<S> {
    by_instance: HashMap<InstanceId, Suspect<S>>,
    /// When to check all processes again; `None` while there is no other process.
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
    /// Whether to check the other processes now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let state = self.0.lock();
        state.next.is_none_or(|next| now >= next) || state.by_instance.values().any(|it| it.is_ripe(now))
    }

    /// How long to wait before the next check; `None` if there is no other process.
    pub(crate) fn look_again_in(&self, now: Instant) -> Option<Duration> {
        let state = self.0.lock();
        let ripe = state.by_instance.values().map(|suspect| suspect.since + SILENCE);
        let next = ripe.chain(state.next).min()?;
        Some(next.saturating_duration_since(now).max(MIN_PAUSE))
    }

    /// Records a check of all other processes, which began at `asked` and was answered at `answered`. Returns the
    /// processes that have shown no liveness for long enough to be considered dead.
    ///
    /// Only a new sign clears a suspect: a process that shows its liveness again gets one. The old sign may only seem to be
    /// there again, because the check of another process can look like a sign. So two checks are enough, however far apart
    /// they are.
    pub(crate) fn note(&self, asked: Instant, answered: Instant, seen: Vec<Seen<S>>) -> Vec<Seen<S>> {
        let mut state = self.0.lock();
        let others = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        state.next =
            (others > 0).then(|| answered + CHECK_EVERY.max(SHARED_CHECK_EVERY.saturating_mul(others)));
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

    /// Forgets a suspect whose runs have been moved on.
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
    fn a_process_is_dead_when_two_checks_a_silence_apart_miss_the_same_sign() {
        let (suspects, id, start) = (Suspects::default(), InstanceId::new(), Instant::now());
        let check = |at: Duration, sign, is_there| {
            suspects.note(start + at, start + at, seen(id, sign, is_there)).len()
        };
        assert_eq!(check(Duration::ZERO, 1, false), 0);
        assert_eq!(check(SILENCE / 2, 1, false), 0);
        // The check of another process at the same moment looks like a sign.
        assert_eq!(check(SILENCE * 3 / 4, 1, true), 0);
        assert_eq!(check(SILENCE, 1, false), 1);
        suspects.forget(id);
        assert_eq!(check(SILENCE, 1, false), 0);
    }

    #[test]
    fn a_process_that_showed_its_liveness_again_between_two_checks_is_not_dead() {
        let (suspects, id, start) = (Suspects::default(), InstanceId::new(), Instant::now());
        assert!(suspects.note(start, start, seen(id, 1, false)).is_empty());
        let late = start + SILENCE * 10;
        assert!(suspects.note(late, late, seen(id, 2, false)).is_empty());
        assert!(suspects.note(late, late, Vec::new()).is_empty());
        assert!(suspects.note(late + SILENCE, late + SILENCE, seen(id, 2, false)).is_empty());
    }

    #[test]
    fn a_suspect_is_checked_again_exactly_when_the_silence_is_over() {
        let (suspects, id, start) = (Suspects::default(), InstanceId::new(), Instant::now());
        assert_eq!(suspects.look_again_in(start), None);
        suspects.note(start, start, seen(id, 1, true));
        assert_eq!(suspects.look_again_in(start), Some(CHECK_EVERY));
        suspects.note(start, start, seen(id, 1, false));
        let late = start + SILENCE - CHECK_EVERY / 2;
        suspects.note(late, late, seen(id, 1, false));
        assert_eq!(suspects.look_again_in(late), Some(CHECK_EVERY / 2));
        assert!(!suspects.is_due(late) && suspects.is_due(start + SILENCE));
    }

    #[test]
    fn many_processes_share_the_checks() {
        let (suspects, start) = (Suspects::default(), Instant::now());
        let many = (0..100).flat_map(|_| seen(InstanceId::new(), 1, true)).collect();
        suspects.note(start, start, many);
        assert_eq!(suspects.look_again_in(start), Some(Duration::from_secs(5)));
    }
}
