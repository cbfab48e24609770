//! Shared by the tests: places to keep tasks, and waiting for conditions with a deadline.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use taskflow::store::IntoStore;
use taskflow::{
    MemoryStore, SqliteStore, Store, TaskId, TaskManager, TaskManagerBuilder, TaskRecord, TaskStatus,
};
use tempfile::TempDir;
use tokio::sync::watch;

/// The longest a test waits for anything: far beyond what a loaded machine needs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A place that keeps tasks. Any number of managers can share it, at once or one after the other, as over a restart.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Memory(MemoryStore),
    Sqlite(Arc<TempDir>),
    Server(String),
}

impl Place {
    pub(crate) fn memory() -> Self {
        Self::Memory(MemoryStore::new())
    }

    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Makes the store, because connecting makes none.
        drop(SqliteStore::open(directory.path().join("tasks.db")).unwrap());
        Self::Sqlite(Arc::new(directory))
    }

    /// An empty store in memory and one in a SQLite file.
    pub(crate) fn each() -> [Self; 2] {
        [Self::memory(), Self::sqlite()]
    }

    pub(crate) fn builder(&self) -> TaskManagerBuilder {
        match self {
            Self::Memory(store) => TaskManager::builder().store(store.clone()),
            Self::Sqlite(_) | Self::Server(_) => TaskManager::builder().store(self.url()),
        }
    }

    /// A handle of its own on the store.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            Self::Sqlite(_) | Self::Server(_) => self.url().into_store().unwrap(),
        }
    }

    /// The URL of a file or a server.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Memory(_) => "memory:".to_owned(),
            Self::Server(url) => url.clone(),
            Self::Sqlite(dir) => {
                format!("sqlite://{}?synchronous=normal", dir.path().join("tasks.db").display())
            }
        }
    }
}

/// The output of `future`, which must come before the deadline.
pub(crate) async fn soon<T>(future: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future.into_future()).await.expect("it did not come before the deadline")
}

/// Asks until the answer is `Some`. Panics at the deadline.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    match tokio::time::timeout(DEADLINE, asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("never: {what}"),
    }
}

/// The record of a task, which must exist.
pub(crate) async fn record(tasks: &TaskManager, id: TaskId) -> TaskRecord {
    tasks.get(id).await.unwrap().expect("it has a record")
}

/// Waits until the task has that status, and returns its record.
pub(crate) async fn reaches(tasks: &TaskManager, id: TaskId, status: TaskStatus) -> TaskRecord {
    let last = Mutex::new(None);
    let asking = async {
        loop {
            let task = record(tasks, id).await;
            if task.status == status {
                return task;
            }
            *last.lock().unwrap() = Some(task);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    match tokio::time::timeout(DEADLINE, asking).await {
        Ok(task) => task,
        Err(_) => panic!("never {status}: {:?}", last.lock().unwrap()),
    }
}

/// Waits until the task has ended in any way, and returns its record.
pub(crate) async fn ends(tasks: &TaskManager, id: TaskId) -> TaskRecord {
    eventually("it ended", || async { Some(record(tasks, id).await).filter(|task| task.status.is_final()) })
        .await
}

/// Tasks wait at a gate until it is opened. It counts the tasks that came.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<watch::Sender<(usize, bool)>>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new((0, false))))
    }
}

impl Gate {
    pub(crate) async fn pass(&self) {
        self.0.send_modify(|state| state.0 += 1);
        let _ = self.0.subscribe().wait_for(|state| state.1).await;
    }

    pub(crate) fn pass_blocking(&self) {
        self.0.send_modify(|state| state.0 += 1);
        while !self.0.borrow().1 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn open(&self) {
        self.0.send_modify(|state| state.1 = true);
    }

    /// Counts, and does not wait.
    pub(crate) fn note(&self) {
        self.0.send_modify(|state| state.0 += 1);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.borrow().0
    }

    /// Waits until that many have come.
    pub(crate) async fn reached(&self, count: usize) {
        let mut states = self.0.subscribe();
        let waiting = states.wait_for(|state| state.0 >= count);
        let came = tokio::time::timeout(DEADLINE, waiting).await.is_ok();
        assert!(came, "{} of {count} came", self.count());
    }
}

/// Values that tasks wrote, in order.
#[derive(Debug)]
pub(crate) struct Notes<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Notes<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Notes<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone> Notes<T> {
    pub(crate) fn write(&self, note: T) {
        self.0.lock().unwrap().push(note);
    }

    pub(crate) fn read(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }
}

/// Counts how many are inside at once, and the most that ever were.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peak(Arc<Mutex<(usize, usize)>>);

impl Peak {
    pub(crate) fn enter(&self) {
        let mut state = self.0.lock().unwrap();
        state.0 += 1;
        state.1 = state.1.max(state.0);
    }

    pub(crate) fn leave(&self) {
        self.0.lock().unwrap().0 -= 1;
    }

    pub(crate) fn highest(&self) -> usize {
        self.0.lock().unwrap().1
    }
}
