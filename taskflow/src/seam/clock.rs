//! A clock that a test moves.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A clock that a test moves. It also counts the tasks that have something to do at this moment (the *busy* ones).
pub(crate) struct TestClock {
    /// The start, on the monotonic clock and on the wall clock.
    base: (Instant, SystemTime),
    state: Mutex<State>,
    /// Notified when no task has anything to do.
    quiet: Notify,
}

#[derive(Default)]
struct State {
    /// How far the monotonic clock has advanced.
    passed: Duration,
    /// How far the wall clock is ahead of the monotonic clock, in microseconds.
    ahead: i64,
    skipped: Duration,
    timers: BTreeMap<Key, Timer>,
    next: u64,
    busy: usize,
}

/// The instant of a timer, as the time since the start, and a number that orders timers of the same instant.
type Key = (Duration, u64);

struct Timer {
    waker: Waker,
    wait: Wait,
}

/// The purpose of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wait {
    /// Its exact time matters.
    Exact,
    /// The renewal of leases: its time matters while there are any.
    Renewal,
    /// A pause between two checks of the same thing.
    Pause,
}

impl TestClock {
    pub(crate) fn new(start: SystemTime) -> Arc<Self> {
        let base = (Instant::now(), start);
        Arc::new(Self { base, state: Mutex::default(), quiet: Notify::new() })
    }

    pub(crate) fn now(&self) -> SystemTime {
        let state = self.state.lock();
        let now = self.base.1 + state.passed;
        let ahead = Duration::from_micros(state.ahead.unsigned_abs());
        if state.ahead < 0 { now - ahead } else { now + ahead }
    }

    pub(crate) fn instant(&self) -> Instant {
        self.base.0 + self.state.lock().passed
    }

    pub(crate) fn skipped(&self) -> Duration {
        self.state.lock().skipped
    }

    /// Sets the wall clock forward or back, as an operator does.
    pub(crate) fn set_ahead(&self, change: impl FnOnce(i64) -> i64) {
        let mut state = self.state.lock();
        state.ahead = change(state.ahead);
    }

    /// How long until the next timer with the purpose `most`, or with one before it in [`Wait`].
    pub(crate) fn next_timer(&self, most: Wait) -> Option<Duration> {
        let state = self.state.lock();
        let mut timers = state.timers.iter().filter(|(_, timer)| timer.wait <= most);
        timers.next().map(|((at, _), _)| at.saturating_sub(state.passed))
    }

    /// Advances the clock, and wakes the timers that are due, in order.
    pub(crate) fn pass(&self, length: Duration, is_skip: bool) {
        let mut state = self.state.lock();
        state.passed += length;
        if is_skip {
            state.skipped += length;
        }
        let next = state.passed + Duration::from_nanos(1);
        let later = state.timers.split_off(&(next, 0));
        let due = std::mem::replace(&mut state.timers, later);
        drop(state);
        due.into_values().for_each(|timer| timer.waker.wake());
    }

    /// Notes that a task has something to do.
    pub(super) fn begin(&self) {
        self.state.lock().busy += 1;
    }

    /// Notes that a task has nothing more to do.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.busy -= 1;
        if state.busy == 0 {
            drop(state);
            self.quiet.notify_waiters();
        }
    }

    /// Waits until the last busy task has nothing more to do. If no task is busy now, it first waits for one.
    pub(crate) async fn next_quiet(&self) {
        self.quiet.notified().await;
    }

    /// Waits until no task of the engine has anything to do, or is about to get something to do.
    pub(crate) async fn quiet(&self) {
        loop {
            let quiet = self.quiet.notified();
            tokio::pin!(quiet);
            quiet.as_mut().enable();
            if self.state.lock().busy > 0 {
                quiet.await;
            }
            // Tasks of the test itself may have been woken, and may give the engine something to do.
            for _ in 0..2 {
                tokio::task::yield_now().await;
            }
            if self.state.lock().busy == 0 {
                return;
            }
        }
    }

    fn poll(&self, at: Instant, key: &mut Option<Key>, wait: Wait, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        let at = at.saturating_duration_since(self.base.0);
        if state.passed >= at {
            if let Some(key) = key.take() {
                state.timers.remove(&key);
            }
            return Poll::Ready(());
        }
        let key = *key.get_or_insert_with(|| {
            state.next += 1;
            (at, state.next)
        });
        state.timers.insert(key, Timer { waker: cx.waker().clone(), wait });
        Poll::Pending
    }

    fn forget(&self, key: Key) {
        let removed = self.state.lock().timers.remove(&key);
        drop(removed);
    }
}

impl fmt::Debug for TestClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClock").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// A wait until an instant of the system's clock or of a test's clock.
#[derive(Debug)]
pub(crate) struct Sleep(Kind);

#[derive(Debug)]
enum Kind {
    System(Pin<Box<tokio::time::Sleep>>),
    /// Ends at the first of these instants.
    Test {
        clock: Arc<TestClock>,
        waits: Vec<Waiting>,
    },
}

#[derive(Debug)]
struct Waiting {
    at: Instant,
    key: Option<Key>,
    wait: Wait,
}

impl Sleep {
    /// A wait until the first of these instants.
    pub(super) fn of(clock: Option<&Arc<TestClock>>, waits: [(Option<Instant>, Wait); 2]) -> Self {
        let first = || waits.iter().filter_map(|(at, _)| *at).min().unwrap_or_else(Instant::now);
        Self(match clock {
            None => Kind::System(Box::pin(tokio::time::sleep_until(first()))),
            Some(clock) => {
                let waiting =
                    |(at, wait): (Option<Instant>, Wait)| Some(Waiting { at: at?, key: None, wait });
                let waits = waits.into_iter().filter_map(waiting).collect();
                Kind::Test { clock: clock.clone(), waits }
            }
        })
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Kind::System(sleep) => sleep.as_mut().poll(cx),
            Kind::Test { clock, waits } => {
                let mut poll = Poll::Pending;
                for waiting in waits {
                    if clock.poll(waiting.at, &mut waiting.key, waiting.wait, cx).is_ready() {
                        poll = Poll::Ready(());
                    }
                }
                poll
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Kind::Test { clock, waits } = &self.0 {
            waits.iter().filter_map(|waiting| waiting.key).for_each(|key| clock.forget(key));
        }
    }
}
