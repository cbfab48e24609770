//! What a test has arranged for the next runs of a task: for one attempt, its body is replaced or begins later.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::task::{BlockingBody, BoxFuture, Steering, TaskContext, TaskOutcome};

/// What happens instead of a body, or before it.
pub(crate) enum Scene {
    /// The attempt ends like this.
    End(TaskOutcome),
    Panic(String),
    /// An async body never ends by itself. A synchronous one begins only when the run is asked to stop.
    Hang,
    /// The body begins once the gate is open; a synchronous one also when the run is asked to stop.
    Hold(Arc<Gate>),
}

/// Keeps bodies from beginning until it is opened.
pub(crate) struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    /// Whether a body has come to it, and whether it is open.
    seen: watch::Sender<(bool, bool)>,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            is_open: Mutex::new(false),
            opened: Condvar::new(),
            seen: watch::Sender::new((false, false)),
        })
    }

    pub(crate) fn open(&self) {
        *self.is_open.lock() = true;
        self.opened.notify_all();
        self.seen.send_modify(|seen| seen.1 = true);
    }

    /// Waits until a body has come to the gate.
    pub(crate) async fn reached(&self) {
        // The sender lives as long as the gate.
        let _ = self.seen.subscribe().wait_for(|seen| seen.0).await;
    }

    async fn pass(&self) {
        self.seen.send_modify(|seen| seen.0 = true);
        let _ = self.seen.subscribe().wait_for(|seen| seen.1).await;
    }

    /// Blocks this thread until the gate is open or the run was asked to stop.
    fn pass_blocking(&self, context: &TaskContext) {
        self.seen.send_modify(|seen| seen.0 = true);
        let mut is_open = self.is_open.lock();
        while !*is_open && !context.is_cancelled() {
            self.opened.wait_for(&mut is_open, Duration::from_millis(5));
        }
    }
}

/// The scenes that wait for the next runs, by the name of the task.
#[derive(Default)]
pub(crate) struct Staged {
    scenes: Mutex<HashMap<String, VecDeque<Scene>>>,
    /// The number of bodies that wait for the test.
    parked: Arc<AtomicUsize>,
}

impl Staged {
    pub(crate) fn add(&self, name: &str, scene: Scene) {
        self.scenes.lock().entry(name.to_owned()).or_default().push_back(scene);
    }

    /// The number of bodies that wait for the test.
    pub(crate) fn parked(&self) -> usize {
        self.parked.load(Ordering::SeqCst)
    }

    fn park(&self) -> Parked {
        self.parked.fetch_add(1, Ordering::SeqCst);
        Parked(self.parked.clone())
    }

    fn take(&self, name: &str) -> Option<Scene> {
        self.scenes.lock().get_mut(name)?.pop_front()
    }

    pub(super) fn body(
        &self,
        name: &str,
        body: BoxFuture<'static, TaskOutcome>,
    ) -> BoxFuture<'static, TaskOutcome> {
        match self.take(name) {
            None => body,
            Some(Scene::End(outcome)) => Box::pin(async move { outcome }),
            Some(Scene::Panic(message)) => Box::pin(async move { panic!("{message}") }),
            Some(Scene::Hang) => {
                let parked = self.park();
                Box::pin(async move {
                    let _parked = parked;
                    std::future::pending().await
                })
            }
            Some(Scene::Hold(gate)) => {
                let parked = self.park();
                Box::pin(async move {
                    gate.pass().await;
                    drop(parked);
                    body.await
                })
            }
        }
    }

    pub(super) fn blocking(&self, name: &str, context: &TaskContext, body: BlockingBody) -> BlockingBody {
        let context = context.clone();
        match self.take(name) {
            None => body,
            Some(Scene::End(outcome)) => Box::new(move || outcome),
            Some(Scene::Panic(message)) => Box::new(move || panic!("{message}")),
            Some(Scene::Hang) => {
                let parked = self.park();
                Box::new(move || {
                    Gate::new().pass_blocking(&context);
                    drop((parked, body));
                    // The request to stop decides how the run ends.
                    TaskOutcome::Failure {
                        error: "it hung until it was asked to stop".to_owned(),
                        steering: Steering::Policy,
                    }
                })
            }
            Some(Scene::Hold(gate)) => {
                let parked = self.park();
                Box::new(move || {
                    gate.pass_blocking(&context);
                    drop(parked);
                    body()
                })
            }
        }
    }
}

/// A body that waits for the test.
struct Parked(Arc<AtomicUsize>);

impl Drop for Parked {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Staged").field(&self.scenes.lock().len()).finish()
    }
}
