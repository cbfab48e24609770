//! The options of the builder for code around tasks.

use super::TaskManagerBuilder;
use crate::model::Middleware;
use crate::observe::{Observer, OnAdd};

impl TaskManagerBuilder {
    /// Puts a middleware around each attempt of each task in this process. The first one given is the outermost. See
    /// [`Middleware`](crate::observe::Middleware).
    ///
    /// For single tasks, use the option `middleware` of their [attribute](macro@crate::task).
    pub fn middleware(mut self, middleware: impl Middleware) -> Self {
        self.hooks.middleware.push(middleware);
        self
    }

    /// Adds a hook that sees each task before this process adds it, and may change or refuse it. Hooks are called in the order
    /// in which they were given. See [`OnAdd`].
    pub fn on_add(mut self, hook: impl OnAdd) -> Self {
        self.hooks.on_add.push(hook);
        self
    }

    /// Adds an observer, which receives the events of this process's tasks on a thread of its own, so it never delays a task.
    /// See [`Observer`].
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.hooks.observer(observer);
        self
    }
}
