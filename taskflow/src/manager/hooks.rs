//! The options of the builder for code around tasks.

use super::TaskManagerBuilder;
use crate::model::Middleware;
use crate::observe::{Observer, OnAdd};

impl TaskManagerBuilder {
    /// Puts a middleware around each attempt of each task in this process. The first is the outermost. See
    /// [`Middleware`](crate::observe::Middleware).
    ///
    /// For single tasks, use the option `middleware` of their [attribute](macro@crate::task).
    pub fn middleware(mut self, middleware: impl Middleware) -> Self {
        self.hooks.middleware.push(middleware);
        self
    }

    /// Adds a hook that sees each add of this process, and may change or refuse it. Hooks are called in the order in which
    /// they were given. See [`OnAdd`].
    pub fn on_add(mut self, hook: impl OnAdd) -> Self {
        self.hooks.on_add.push(hook);
        self
    }

    /// Adds an observer, which hears of the tasks of this process on a thread beside their path. See [`Observer`].
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.hooks.observer(observer);
        self
    }
}
