//! The tasks of the histories, and what their bodies do.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use taskflow::{State, TaskError, TaskManager};
use tokio::sync::oneshot;

/// What the bodies of one history did. A task is identified by the number in its arguments.
#[derive(Clone, Default)]
pub(crate) struct Bodies(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    begun: HashMap<u32, u32>,
    /// The numbers of the tasks whose bodies run.
    going: Vec<u32>,
    /// The tasks that had two bodies running at once.
    twice_at_once: Vec<u32>,
    /// How many bodies in the queue `narrow` ran at once, at most.
    most_narrow: usize,
    /// The children whose adds returned `Ok`.
    children: BTreeSet<u32>,
    waiting: Vec<oneshot::Sender<()>>,
    /// No body waits any more.
    is_over: bool,
}

/// Tasks with numbers from here on are in the queue `narrow`.
pub(crate) const NARROW: u32 = 1000;

/// The number of a task's child, less that of the task.
pub(crate) const CHILD: u32 = 10_000;

impl Bodies {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }

    fn begin(&self, n: u32) -> (Going, u32) {
        let mut seen = self.seen();
        let times = seen.begun.entry(n).or_default();
        *times += 1;
        let times = *times;
        if seen.going.contains(&n) {
            seen.twice_at_once.push(n);
        }
        seen.going.push(n);
        let narrow = seen.going.iter().filter(|n| (NARROW..CHILD).contains(n)).count();
        seen.most_narrow = seen.most_narrow.max(narrow);
        (Going(self.clone(), n), times)
    }

    /// Waits until [`let_go`](Self::let_go) picks this body.
    async fn wait(&self) {
        let (go, gone) = oneshot::channel();
        {
            let mut seen = self.seen();
            if seen.is_over {
                return;
            }
            seen.waiting.push(go);
        }
        let _ = gone.await;
    }

    /// Lets one of the bodies that wait go on.
    pub(crate) fn let_go(&self, chance: &mut fastrand::Rng) {
        let mut seen = self.seen();
        seen.waiting.retain(|go| !go.is_closed());
        if !seen.waiting.is_empty() {
            let at = chance.usize(..seen.waiting.len());
            let _ = seen.waiting.remove(at).send(());
        }
    }

    /// Lets all bodies go on, also those that begin later.
    pub(crate) fn let_all_go(&self) {
        let mut seen = self.seen();
        seen.is_over = true;
        seen.waiting.drain(..).for_each(|go| {
            let _ = go.send(());
        });
    }

    /// How often a body of this task began.
    pub(crate) fn begun(&self, n: u32) -> u32 {
        self.seen().begun.get(&n).copied().unwrap_or(0)
    }

    pub(crate) fn twice_at_once(&self) -> Vec<u32> {
        self.seen().twice_at_once.clone()
    }

    pub(crate) fn children(&self) -> BTreeSet<u32> {
        self.seen().children.clone()
    }

    pub(crate) fn most_narrow(&self) -> usize {
        self.seen().most_narrow
    }
}

/// A body that runs, until it is dropped.
struct Going(Bodies, u32);

impl Drop for Going {
    fn drop(&mut self) {
        let mut seen = self.0.seen();
        if let Some(at) = seen.going.iter().position(|n| *n == self.1) {
            seen.going.remove(at);
        }
    }
}

/// May run again after a lost run. Fails the first `fails` times, and may add a child, as a request would in its process.
#[taskflow::task(requeue_on_interrupt = true, retries = 2, delay = "5s", backoff = 1.0, timeout = "20s")]
pub(crate) async fn again(
    n: u32,
    fails: u32,
    waits: bool,
    adds: bool,
    tasks: TaskManager,
    bodies: State<Bodies>,
) -> Result<u32, TaskError> {
    let (_going, times) = bodies.begin(n);
    if adds {
        let add = tasks.add_task(child, (n + CHILD, waits)).eager(n.is_multiple_of(2));
        if add.idempotency_key(format!("child {n}")).await.is_ok() {
            bodies.seen().children.insert(n + CHILD);
        }
    }
    if waits {
        bodies.wait().await;
    }
    match times <= fails {
        true => Err(TaskError::from(std::io::Error::other("as the history wants it"))),
        false => Ok(n),
    }
}

/// May not run twice.
#[taskflow::task(timeout = "20s")]
pub(crate) async fn once(n: u32, waits: bool, bodies: State<Bodies>) -> Result<u32, TaskError> {
    let (_going, _) = bodies.begin(n);
    if waits {
        bodies.wait().await;
    }
    Ok(n)
}

/// May not run twice.
#[taskflow::task(timeout = "20s")]
async fn child(n: u32, waits: bool, bodies: State<Bodies>) -> Result<(), TaskError> {
    let (_going, _) = bodies.begin(n);
    if waits {
        bodies.wait().await;
    }
    Ok(())
}

#[taskflow::schedule(every = "40s")]
async fn tick() -> Result<(), TaskError> {
    Ok(())
}
