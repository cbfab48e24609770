//! A simulated process of a test: its clock, its tasks, and whether it is alive.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use tokio::task::coop::{Unconstrained, unconstrained};

use super::clock::TestClock;

/// A simulated process of a test.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: Arc<TestClock>,
    life: Mutex<Life>,
}

#[derive(Debug, Default)]
struct Life {
    state: LifeState,
    next: u64,
    /// The tasks of the process that have not ended.
    tasks: HashMap<u64, Arc<Beat>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LifeState {
    #[default]
    Lives,
    Frozen,
    Killed,
}

impl World {
    pub(crate) fn new(clock: Arc<TestClock>) -> Arc<Self> {
        Arc::new(Self { clock, life: Mutex::default() })
    }

    /// Ends all futures of the process, as `kill -9` does: none of them runs again.
    pub(crate) fn kill(&self) {
        self.set(LifeState::Killed);
    }

    /// Stops all tasks of the process, as a long pause of its machine does.
    pub(crate) fn freeze(&self) {
        self.set(LifeState::Frozen);
    }

    /// Lets a frozen process continue.
    pub(crate) fn thaw(&self) {
        self.set(LifeState::Lives);
    }

    fn set(&self, state: LifeState) {
        let mut life = self.life.lock();
        if life.state == LifeState::Killed {
            return;
        }
        life.state = state;
        let mut tasks: Vec<_> = life.tasks.iter().map(|(number, beat)| (*number, beat.clone())).collect();
        drop(life);
        // Wake them in the order in which they began, so that the same seed gives the same history.
        tasks.sort_unstable_by_key(|(number, _)| *number);
        tasks.into_iter().for_each(|(_, beat)| beat.wake());
    }

    /// A future that belongs to this process.
    pub(super) fn tracked<F: Future>(self: &Arc<Self>, future: F) -> Tracked<Unconstrained<F>> {
        // With a budget, tokio may end a poll early and wake the future later; meanwhile the clock would take it for idle.
        let future = unconstrained(future);
        let beat = Arc::new(Beat { clock: self.clock.clone(), state: Mutex::default() });
        let mut life = self.life.lock();
        life.next += 1;
        let number = life.next;
        life.tasks.insert(number, beat.clone());
        drop(life);
        beat.wake_by_ref();
        Tracked { world: self.clone(), number, beat, future: Some(Box::pin(future)) }
    }
}

/// Whether a task has something to do.
struct Beat {
    clock: Arc<TestClock>,
    state: Mutex<BeatState>,
}

impl std::fmt::Debug for Beat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Beat")
    }
}

#[derive(Default)]
struct BeatState {
    is_woken: bool,
    is_over: bool,
    waker: Option<Waker>,
}

impl Wake for Beat {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if !state.is_woken && !state.is_over {
            state.is_woken = true;
            self.clock.begin();
        }
        let waker = state.waker.clone();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A future that belongs to a process of a test.
pub(super) struct Tracked<F> {
    world: Arc<World>,
    number: u64,
    beat: Arc<Beat>,
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Tracked<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut state = self.beat.state.lock();
        if !std::mem::replace(&mut state.is_woken, false) {
            self.beat.clock.begin();
        }
        state.waker = Some(cx.waker().clone());
        drop(state);
        let beat = self.beat.clone();
        let _polled = Polled(&beat);
        let life = self.world.life.lock().state;
        match life {
            LifeState::Lives => {}
            LifeState::Frozen => return Poll::Pending,
            LifeState::Killed => {
                // The destructors still run, but whatever they leave to other tasks of this process is never done.
                drop(self.future.take());
                return Poll::Pending;
            }
        }
        let waker = Waker::from(beat.clone());
        match &mut self.future {
            Some(future) => future.as_mut().poll(&mut Context::from_waker(&waker)),
            None => Poll::Pending,
        }
    }
}

/// A poll in progress.
struct Polled<'a>(&'a Beat);

impl Drop for Polled<'_> {
    fn drop(&mut self) {
        self.0.clock.end();
    }
}

impl<F> Drop for Tracked<F> {
    fn drop(&mut self) {
        self.world.life.lock().tasks.remove(&self.number);
        let mut state = self.beat.state.lock();
        state.is_over = true;
        state.waker = None;
        if std::mem::replace(&mut state.is_woken, false) {
            drop(state);
            self.beat.clock.end();
        }
    }
}
