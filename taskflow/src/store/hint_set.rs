//! Sets of hints: they say what has changed in a store, to this process and to others.

use std::ops::{BitOr, BitOrAssign};

use tokio::sync::watch;

use super::Hint;

/// What has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HintSet(u8);

impl HintSet {
    pub(super) const NONE: Self = Self(0);
    /// There may be work.
    pub(super) const WORK: Self = Self(1);
    /// Tasks have ended.
    pub(super) const ENDS: Self = Self(2);
    const OTHERS: Self = Self(4);
    pub(super) const ALL: Self = Self(7);
    /// Each kind by itself.
    #[cfg(feature = "postgres")]
    pub(super) const KINDS: [Self; 3] = [Self::WORK, Self::ENDS, Self::OTHERS];

    /// These changes, if `is_so`; else none.
    pub(super) fn when(self, is_so: bool) -> Self {
        if is_so { self } else { Self::NONE }
    }

    /// Every set, each at its [`index`](Self::index).
    #[cfg(feature = "redis")]
    pub(super) fn every() -> [Self; 8] {
        [0, 1, 2, 3, 4, 5, 6, 7].map(Self)
    }

    #[cfg(feature = "redis")]
    pub(super) fn index(self) -> usize {
        self.0.into()
    }

    pub(super) fn any(self) -> bool {
        self != Self::NONE
    }

    pub(super) fn has(self, changes: Self) -> bool {
        self.0 & changes.0 == changes.0
    }

    /// The changes as a character of a message.
    pub(super) fn character(self) -> u8 {
        b'0' + self.0
    }

    /// The changes that a message's character stands for. A missing or unknown one stands for all changes.
    pub(super) fn of_character(character: Option<u8>) -> Self {
        match character {
            Some(known @ b'1'..=b'7') => Self(known - b'0'),
            _ => Self::ALL,
        }
    }

    /// Its hints.
    pub(super) fn hints(self) -> impl Iterator<Item = Hint> {
        let all = [(Self::OTHERS, Hint::Changed), (Self::WORK, Hint::Work), (Self::ENDS, Hint::Ends)];
        // `Changed` includes the other hints.
        let most = if self.has(Self::OTHERS) { 1 } else { all.len() };
        all.into_iter().filter(move |(changes, _)| self.has(*changes)).map(|(_, hint)| hint).take(most)
    }
}

impl BitOr for HintSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for HintSet {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

/// Announces changes to the listeners of this process.
#[derive(Debug)]
pub(super) struct HintSender(watch::Sender<Announced>);

/// How often each kind of change was announced.
type Announced = [u64; 3];

impl HintSender {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new([0; 3]))
    }

    pub(super) fn send(&self, changes: HintSet) {
        if changes.any() {
            self.0.send_modify(|announced| {
                for (bit, count) in announced.iter_mut().enumerate() {
                    *count += u64::from(changes.0 >> bit & 1);
                }
            });
        }
    }

    pub(super) fn subscribe(&self) -> HintReceiver {
        let announced = self.0.subscribe();
        let known = *announced.borrow();
        HintReceiver { announced, known }
    }
}

/// Receives the changes that are announced after its creation.
#[derive(Debug)]
pub(super) struct HintReceiver {
    announced: watch::Receiver<Announced>,
    known: Announced,
}

impl HintReceiver {
    /// Waits for changes. Never returns once the sender is gone, because nothing will change any more.
    pub(super) async fn receive(&mut self) -> HintSet {
        if self.announced.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let announced = *self.announced.borrow_and_update();
        let known = std::mem::replace(&mut self.known, announced);
        let bits = (0..3).filter(|&bit| announced[bit] != known[bit]);
        bits.map(|bit| HintSet(1 << bit)).fold(HintSet::NONE, HintSet::bitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_what_it_tells_and_an_unknown_one_tells_everything() {
        for bits in 1..=7 {
            let changes = HintSet(bits);
            assert_eq!(HintSet::of_character(Some(changes.character())), changes);
        }
        for unknown in [None, Some(b'0'), Some(b'8'), Some(b'x')] {
            assert_eq!(HintSet::of_character(unknown), HintSet::ALL, "{unknown:?}");
        }
    }

    #[tokio::test]
    async fn a_subscriber_receives_each_kind_once_however_often_it_was_announced() {
        let sender = HintSender::new();
        sender.send(HintSet::ALL);
        let mut subscriber = sender.subscribe();
        for changes in [HintSet::WORK, HintSet::WORK, HintSet::NONE, HintSet::ENDS] {
            sender.send(changes);
        }
        let received = subscriber.receive().await;
        assert_eq!(received.hints().collect::<Vec<_>>(), [Hint::Work, Hint::Ends]);
        sender.send(HintSet::ALL);
        assert_eq!(subscriber.receive().await.hints().collect::<Vec<_>>(), [Hint::Changed]);
    }
}
