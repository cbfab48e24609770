//! The code of the user around tasks: middleware, hooks on adds, and observers.

use std::any::type_name;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::observers::Plugged;
use super::panics;
use crate::model::{AddError, Middleware, NewTask};
use crate::observe::{Observer, OnAdd};

/// The code of the user that the builder was given.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    pub(crate) middleware: Around,
    pub(crate) on_add: OnAdds,
    pub(crate) observers: Vec<Plugged>,
}

impl Hooks {
    pub(crate) fn observer<O: Observer>(&mut self, observer: O) {
        self.observers.push(Plugged::new(observer));
    }
}

/// The middleware of all tasks, the outermost first.
#[derive(Default)]
pub(crate) struct Around(Vec<Arc<dyn Middleware>>);

impl Around {
    pub(crate) fn push(&mut self, middleware: impl Middleware) {
        self.0.push(Arc::new(middleware));
    }
}

impl Deref for Around {
    type Target = [Arc<dyn Middleware>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Around").field(&self.0.len()).finish()
    }
}

/// The hooks on adds, in their order.
#[derive(Default)]
pub(crate) struct OnAdds(Vec<Hook>);

struct Hook {
    type_name: &'static str,
    hook: Box<dyn OnAdd>,
}

impl OnAdds {
    pub(crate) fn push<H: OnAdd>(&mut self, hook: H) {
        self.0.push(Hook { type_name: type_name::<H>(), hook: Box::new(hook) });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls each hook, until one refuses the task.
    pub(crate) fn call(&self, task: &mut NewTask) -> Result<(), AddError> {
        self.0.iter().try_for_each(|Hook { type_name, hook }| {
            panics::catch(|| hook.on_add(task)).unwrap_or_else(|message| {
                // The log may be what panicked.
                let _ = panics::catch(|| tracing::error!(hook = type_name, "a hook on adds {message}"));
                Err(AddError::Hook { hook: type_name, message })
            })
        })
    }
}

impl fmt::Debug for OnAdds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|hook| hook.type_name)).finish()
    }
}
