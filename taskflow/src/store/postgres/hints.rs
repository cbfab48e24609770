//! Hints that something changed: sent by `NOTIFY` after the commit, and received by a [`listener`](super::listener).
//!
//! PostgreSQL serializes the commits of transactions that notify, so a `NOTIFY` inside each write would make writes take
//! four times as long. Instead, one `NOTIFY` is sent by itself for all writes since the last one. It names the kinds of
//! change, and its sender, so that a process does not wake itself.
//!
//! Every message wakes every process that listens, and costs the server more than most writes. So the processes share one
//! pace: a process that receives a message waits before it sends its own, and sends none if another message has announced
//! the same changes meanwhile. It waits longer if there are many processes, and if messages take long to arrive. Each
//! process receives its own messages too, so it can measure this.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::error::Fault;
use super::session::Session;
use crate::store::hint_set::{HintSender, HintSet};

/// Without a flush to the disk, because it stores nothing.
const NOTIFY: &str = "
SELECT pg_notify('taskflow_hints', $1), set_config('synchronous_commit', 'off', true)";

/// The shortest pause between two messages of the same kind, for up to [`FEW`] processes. Also the shortest time that a
/// message is assumed to take.
const PAUSE: Duration = Duration::from_millis(5);

/// The longest such pause, and the longest measurement that counts: a server that stood still once does not keep hints
/// slow.
const SLOWEST: Duration = Duration::from_millis(100);

/// A process waits a random time more, up to this many pauses, so that most often one of many waiting processes sends
/// the message for all.
const SPREAD: f64 = 4.0;

/// A message of this process that has not come back for this long counts as lost.
const FORGOTTEN: Duration = Duration::from_secs(1);

/// With more processes than this, the pause grows with their number.
const FEW: usize = 16;

#[derive(Debug)]
pub(super) struct Hints {
    /// Identifies the sender: this store value, since a process may have several.
    sender: String,
    pub(super) heard: HintSender,
    outbox: Mutex<Outbox>,
    /// Wakes the sending task when something changes while it waits: the new change may be due before the others.
    more: Notify,
    /// The number of instances that showed that they live, at the last probe.
    processes: AtomicUsize,
    pub(super) listener: Mutex<Option<JoinHandle<()>>>,
    pub(super) closed: CancellationToken,
}

impl Hints {
    pub(super) fn new() -> Self {
        Self {
            sender: crate::model::TaskId::new().to_string(),
            heard: HintSender::new(),
            outbox: Mutex::default(),
            more: Notify::new(),
            processes: AtomicUsize::new(0),
            listener: Mutex::default(),
            closed: CancellationToken::new(),
        }
    }

    pub(super) fn set_processes(&self, processes: usize) {
        self.processes.store(processes, Ordering::Relaxed);
    }

    /// Tells the listeners of this process what changed. Answers whether the caller must start the *sending task*,
    /// which sends messages to the other processes.
    pub(super) fn changed(&self, changes: HintSet) -> bool {
        self.heard.send(changes);
        let must_start = self.outbox.lock().changed(changes, Instant::now());
        if !must_start {
            self.more.notify_one();
        }
        must_start
    }

    /// Waits that long, or until more has changed.
    pub(super) async fn wait(&self, length: Duration) {
        tokio::select! {
            () = tokio::time::sleep(length) => {}
            () = self.more.notified() => {}
        }
    }

    /// Notes that the sending task has ended together with its runtime.
    pub(super) fn interrupted(&self) {
        self.outbox.lock().is_sending = false;
    }

    /// What the sending task does next. `patience` is a random number between 0 and 1 that stays the same until the
    /// task has sent a message.
    pub(super) fn next(&self, patience: f64) -> Next {
        let processes = self.processes.load(Ordering::Relaxed).max(FEW);
        let mut outbox = self.outbox.lock();
        let pace = PAUSE.mul_f64(processes as f64 / FEW as f64).max(2 * outbox.delay).min(SLOWEST);
        outbox.next(Instant::now(), pace, pace.mul_f64(1.0 + SPREAD * patience))
    }

    /// The message that announces these changes.
    pub(super) fn message(&self, changes: HintSet) -> String {
        format!("{}{}", self.sender, char::from(changes.character()))
    }

    /// Receives a message. It is empty if it comes from an add in a transaction of the caller, or from the SQL function
    /// `taskflow_add`.
    pub(super) fn hear(&self, message: &str) {
        if message.starts_with(&*self.sender) {
            return self.outbox.lock().returned(Instant::now());
        }
        let changes = match message.bytes().next_back() {
            None => HintSet::WORK,
            character => HintSet::of_character(character),
        };
        self.outbox.lock().heard(changes, Instant::now());
        self.heard.send(changes);
    }

    /// Sends a message to the other processes.
    pub(super) async fn notify(session: &mut Session<'_>, message: String) -> Result<u64, Fault> {
        session.execute(session.query(NOTIFY).bind(message)).await
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

/// What the sending task does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send a message that announces `changes`. Those in `late` happened some time ago: a process that receives the message
    /// may then not announce its own changes of that kind, so this process must look again too.
    Send {
        changes: HintSet,
        late: HintSet,
    },
    Wait(Duration),
    /// Nothing is left to announce: the task ends.
    End,
}

/// What must be announced to the other processes, for each kind of change.
#[derive(Debug)]
struct Outbox {
    kinds: [Kind; HintSet::KINDS.len()],
    is_sending: bool,
    /// When a message was sent that has not come back yet.
    sent_at: Option<Instant>,
    /// How long messages take to arrive: an average of the last ones.
    delay: Duration,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { kinds: Default::default(), is_sending: false, sent_at: None, delay: PAUSE / 2 }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kind {
    /// When the first and the last change were made that no message has announced yet.
    untold: Option<(Instant, Instant)>,
    /// When the last message of this kind was sent or received.
    told_at: Option<Instant>,
}

impl Outbox {
    /// Notes changes. Answers whether the sending task must be started.
    fn changed(&mut self, changes: HintSet, now: Instant) -> bool {
        for (_, kind) in self.kinds_of(changes) {
            let first = kind.untold.map_or(now, |(first, _)| first);
            kind.untold = Some((first, now));
        }
        !std::mem::replace(&mut self.is_sending, true)
    }

    /// Notes that a message of this process has come back.
    fn returned(&mut self, now: Instant) {
        if let Some(sent_at) = self.sent_at.take() {
            self.delay = (3 * self.delay + now.saturating_duration_since(sent_at).min(SLOWEST)) / 4;
        }
    }

    /// Notes a message of another process. Changes of the same kinds that were made before it was sent need no message of
    /// their own, because every process that received it has looked for them too.
    fn heard(&mut self, changes: HintSet, now: Instant) {
        let sent_at = now.checked_sub(PAUSE.max(2 * self.delay));
        for (_, kind) in self.kinds_of(changes) {
            kind.told_at = Some(now);
            kind.untold = match (kind.untold, sent_at) {
                (Some((_, last)), Some(sent)) if last <= sent => None,
                (Some((first, last)), Some(sent)) => Some((first.max(sent), last)),
                (untold, None) => untold,
                (None, _) => None,
            };
        }
    }

    /// What to do next. A change that comes at least `pace` after the last message of its kind is announced at once, any
    /// other `busy` after that message.
    fn next(&mut self, now: Instant, pace: Duration, busy: Duration) -> Next {
        let due = self.kinds.iter().filter_map(|kind| {
            let (first, _) = kind.untold?;
            Some(match kind.told_at {
                Some(told_at) if told_at + pace > first => told_at + busy,
                _ => first,
            })
        });
        match due.min() {
            None => {
                self.is_sending = false;
                Next::End
            }
            Some(due) if due > now => Next::Wait(due - now),
            Some(_) => {
                let (mut changes, mut late) = (HintSet::NONE, HintSet::NONE);
                for (set, kind) in self.kinds_of(HintSet::ALL) {
                    if let Some((first, _)) = kind.untold.take() {
                        kind.told_at = Some(now);
                        changes |= set;
                        late |= set.when(first + PAUSE / 2 < now);
                    }
                }
                // A message that does not come back is forgotten.
                self.sent_at =
                    self.sent_at.filter(|at| now.saturating_duration_since(*at) < FORGOTTEN).or(Some(now));
                Next::Send { changes, late }
            }
        }
    }

    fn kinds_of(&mut self, changes: HintSet) -> impl Iterator<Item = (HintSet, &mut Kind)> {
        HintSet::KINDS.into_iter().zip(&mut self.kinds).filter(move |(set, _)| changes.has(*set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Duration = Duration::from_millis(20);
    const BUSY: Duration = Duration::from_millis(30);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn next(outbox: &mut Outbox, now: Instant) -> Next {
        outbox.next(now, PACE, BUSY)
    }

    fn at_once(changes: HintSet) -> Next {
        Next::Send { changes, late: HintSet::NONE }
    }

    fn late(changes: HintSet) -> Next {
        Next::Send { changes, late: changes }
    }

    #[test]
    fn the_first_change_is_told_at_once_and_the_next_ones_together_after_the_pace() {
        let (mut outbox, start) = (Outbox::default(), Instant::now());
        assert!(outbox.changed(HintSet::WORK, start), "nobody sends yet");
        assert_eq!(next(&mut outbox, start), at_once(HintSet::WORK));
        assert!(!outbox.changed(HintSet::WORK, start + ms(1)), "the task still sends");
        assert!(!outbox.changed(HintSet::WORK, start + ms(2)));
        assert_eq!(next(&mut outbox, start + ms(10)), Next::Wait(ms(20)));
        assert_eq!(next(&mut outbox, start + ms(30)), late(HintSet::WORK));
        assert_eq!(next(&mut outbox, start + ms(30)), Next::End);
        assert!(outbox.changed(HintSet::WORK, start + ms(60)), "the task has ended");
        assert_eq!(next(&mut outbox, start + ms(60)), at_once(HintSet::WORK), "after a quiet time");
    }

    #[test]
    fn a_message_of_another_process_tells_what_changed_before_it_was_sent() {
        let (mut outbox, start) = (Outbox::default(), Instant::now());
        outbox.heard(HintSet::WORK, start);
        outbox.changed(HintSet::WORK, start + ms(1));
        assert_eq!(next(&mut outbox, start + ms(1)), Next::Wait(ms(29)));
        outbox.heard(HintSet::WORK, start + ms(3));
        assert_eq!(
            next(&mut outbox, start + ms(3)),
            Next::Wait(ms(30)),
            "it may have been sent before the change"
        );
        outbox.heard(HintSet::WORK, start + ms(6));
        assert_eq!(next(&mut outbox, start + ms(6)), Next::End);
    }

    #[test]
    fn a_message_of_another_kind_neither_tells_nor_delays_a_change() {
        let (mut outbox, start) = (Outbox::default(), Instant::now());
        outbox.heard(HintSet::ENDS, start);
        outbox.changed(HintSet::WORK, start + ms(1));
        outbox.heard(HintSet::ENDS, start + ms(10));
        assert_eq!(next(&mut outbox, start + ms(10)), late(HintSet::WORK));
    }

    #[test]
    fn where_messages_are_under_way_for_long_one_that_is_heard_tells_less() {
        let (mut outbox, start) = (Outbox::default(), Instant::now());
        for at in [0, 100, 200, 300, 400, 500, 600, 700] {
            outbox.changed(HintSet::WORK, start + ms(at));
            assert_eq!(next(&mut outbox, start + ms(at)), at_once(HintSet::WORK));
            outbox.returned(start + ms(at + 40));
        }
        outbox.changed(HintSet::WORK, start + ms(800));
        outbox.heard(HintSet::WORK, start + ms(850));
        assert_ne!(next(&mut outbox, start + ms(850)), Next::End, "it may have been sent before the change");
        outbox.heard(HintSet::WORK, start + ms(900));
        assert_eq!(next(&mut outbox, start + ms(900)), Next::End);
    }

    #[test]
    fn a_server_that_stood_still_once_does_not_keep_hints_slow() {
        let (mut outbox, start) = (Outbox::default(), Instant::now());
        outbox.changed(HintSet::WORK, start);
        assert_eq!(next(&mut outbox, start), at_once(HintSet::WORK));
        outbox.returned(start + Duration::from_secs(60));
        assert!(outbox.delay < ms(30), "{:?}", outbox.delay);
    }

    #[tokio::test]
    async fn a_change_that_is_due_at_once_ends_the_wait_for_another() {
        let hints = Hints::new();
        assert!(hints.changed(HintSet::ENDS));
        assert!(matches!(hints.next(0.5), Next::Send { .. }));
        hints.changed(HintSet::ENDS);
        assert!(matches!(hints.next(0.5), Next::Wait(_)));
        let waiting = hints.wait(Duration::from_secs(600));
        hints.changed(HintSet::WORK);
        waiting.await;
        assert!(matches!(hints.next(0.5), Next::Send { changes, .. } if changes.has(HintSet::WORK)));
    }

    #[test]
    fn of_changes_that_go_on_only_those_since_the_last_message_are_told_again() {
        let (mut outbox, start) = (Outbox::default(), Instant::now());
        for at in 0..100 {
            outbox.changed(HintSet::ENDS, start + ms(at));
            if at % 10 == 0 {
                outbox.heard(HintSet::ENDS, start + ms(at));
            }
            assert!(at == 0 || matches!(next(&mut outbox, start + ms(at)), Next::Wait(_)), "at {at} ms");
        }
        assert_eq!(next(&mut outbox, start + ms(120)), late(HintSet::ENDS));
    }
}
