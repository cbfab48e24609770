//! `TaskManager` as a parameter of its own tasks.

use std::sync::{Arc, OnceLock};

use super::TaskManager;
use super::lifecycle::WeakManager;
use crate::task::{ContextError, FromContext, States, TaskContext};

/// The manager, once it exists. It is offered to tasks before that, because states are checked before the start.
#[derive(Clone, Default)]
pub(super) struct OwnManager(Arc<OnceLock<WeakManager>>);

impl OwnManager {
    /// Lets tasks take the manager as a `TaskManager` or a `State<TaskManager>`.
    pub(super) fn offer(&self, states: &mut States) {
        let own = self.clone();
        states.provide(move || own.0.get().and_then(WeakManager::upgrade));
    }

    pub(super) fn set(&self, manager: &TaskManager) {
        // Only `start` calls this, once.
        let _ = self.0.set(manager.downgrade());
    }
}

/// A task can add tasks.
impl FromContext for TaskManager {
    fn from_context(context: &TaskContext) -> Result<Self, ContextError> {
        context.provided().ok_or_else(|| ContextError::new("the task manager is gone: the process is ending"))
    }
}
