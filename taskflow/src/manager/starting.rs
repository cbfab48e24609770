//! The steps of a start.

use std::sync::Arc;

use super::TaskManager;
#[cfg(feature = "metrics")]
use super::facade;
use crate::engine::core::Core;
use crate::engine::joining::Starting;
use crate::engine::supervision::supervise;
use crate::engine::worker::Worker;
use crate::engine::{end_reader, listener, queue_watch, recovery, statistics, viewer};
use crate::model::{Error, StoreError, StoreErrorKind};
use crate::task::Registry;

/// The error if the thread that opens a store ended without an answer.
pub(super) fn could_not_be_opened() -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        "the store could not be opened: opening it panicked, or the runtime is shutting down",
    )
}

/// Registers this process with the store and reads the stored queue limits. After an error it is unregistered again.
pub(super) async fn join(starting: Starting, core: &Core) -> Result<Starting, Error> {
    let joined = async {
        match starting.join().await {
            Err(Error::Store(error)) if !core.instance.runs => {
                core.look_only(viewer::can_look(core, error).await?);
            }
            joined => joined?,
        }
        // Stored limits and pauses must apply from the first claim on.
        Ok(queue_watch::refresh(core, None).await?)
    };
    match joined.await {
        Ok(()) => Ok(starting),
        Err(error) => {
            starting.give_up().await;
            Err(error)
        }
    }
}

/// Starts the parts of the engine that every process needs, whether or not it runs tasks.
pub(super) fn watch_others(manager: &TaskManager, worker: Option<&Arc<Worker>>) {
    let core = &manager.0.core;
    let with = |core: &Arc<Core>| (core.clone(), worker.cloned());
    let parts = with(core);
    spawn(core, "the listener", move || listener::listen(parts.0.clone(), parts.1.clone()));
    let parts = with(core);
    spawn(core, "the queue watch", move || queue_watch::watch(parts.0.clone(), parts.1.clone()));
    let shared = core.clone();
    spawn(core, "the reader of results", move || end_reader::read(shared.clone()));
    if core.settings.stats {
        let shared = core.clone();
        spawn(core, "the statistics", move || statistics::keep(shared.clone()));
    }
    #[cfg(feature = "metrics")]
    {
        let (shared, manager) = (core.clone(), manager.downgrade());
        spawn(core, "the push of metrics", move || facade::push(shared.clone(), manager.clone()));
    }
    #[cfg(feature = "encryption")]
    if worker.is_some() && core.has_keys() {
        let shared = core.clone();
        spawn(core, "the check for keys", move || crate::engine::key_check::warn(shared.clone()));
    }
    let parts = with(core);
    spawn(core, "the recovery", move || recovery::watch(parts.0.clone(), parts.1.clone()));
}

/// Starts a part of the engine under supervision: after a panic it is started again.
pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(
    core: &Arc<Core>,
    part: &'static str,
    start: impl FnMut() -> F + Send + 'static,
) {
    core.spawn(supervise(core.clone(), part, start));
}

pub(super) fn log_start(core: &Core, registry: &Registry) {
    let tasks: Vec<_> = registry.tasks().iter().map(|task| task.config().name).collect();
    tracing::info!(
        store = %core.store.location(),
        instance = %core.instance.id,
        tasks = ?tasks,
        "taskflow {} runs {} tasks",
        core.instance.version,
        tasks.len(),
    );
}
