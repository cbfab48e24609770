//! The options of a task's attribute.

use std::time::Duration;

use crate::model::{RetryPolicy, TaskMiddleware};

/// The options of `#[task(..)]`, with defaults for those not given. Every add uses them unless it overrides them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskConfig {
    /// The name it is registered under.
    pub name: &'static str,
    /// Former names. Tasks stored under them run as this task.
    pub aliases: &'static [&'static str],
    /// The priority: higher values run first.
    pub priority: i16,
    /// The queue.
    pub queue: &'static str,
    /// Whether an added task starts at once if the process that adds it has a free slot, before any waiting task.
    pub eager: bool,
    /// How often and when it is retried.
    pub policy: RetryPolicy,
    /// Its own middleware, the outermost first.
    pub(crate) middleware: &'static [TaskMiddleware],
    /// Whether its arguments and results are encrypted; `None` leaves it to the manager.
    pub encrypt: Option<bool>,
}

/// Used by the code that the attribute generates, in a constant.
#[doc(hidden)]
#[allow(missing_docs, reason = "one function for each option of the attribute, which documents them")]
impl TaskConfig {
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            aliases: &[],
            priority: 0,
            queue: "default",
            eager: false,
            policy: RetryPolicy::DEFAULT,
            middleware: &[],
            encrypt: None,
        }
    }

    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    #[must_use]
    pub const fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    #[must_use]
    pub const fn queue(mut self, queue: &'static str) -> Self {
        self.queue = queue;
        self
    }

    #[must_use]
    pub const fn eager(mut self, eager: bool) -> Self {
        self.eager = eager;
        self
    }

    #[must_use]
    pub const fn middleware(mut self, middleware: &'static [TaskMiddleware]) -> Self {
        self.middleware = middleware;
        self
    }

    #[must_use]
    pub const fn retries(mut self, retries: u32) -> Self {
        self.policy.retries = retries;
        self
    }

    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.policy.delay = delay;
        self
    }

    #[must_use]
    pub const fn backoff(mut self, factor: f64) -> Self {
        self.policy.backoff = factor;
        self
    }

    #[must_use]
    pub const fn max_delay(mut self, max_delay: Duration) -> Self {
        self.policy.max_delay = max_delay;
        self
    }

    #[must_use]
    pub const fn jitter(mut self, share: f64) -> Self {
        self.policy.jitter = share;
        self
    }

    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.policy.timeout = Some(timeout);
        self
    }

    #[must_use]
    pub const fn requeue_on_interrupt(mut self, requeue: bool) -> Self {
        self.policy.requeue_on_interrupt = requeue;
        self
    }

    #[must_use]
    pub const fn max_snoozes(mut self, times: u32) -> Self {
        self.policy.max_snoozes = times;
        self
    }

    #[must_use]
    pub const fn max_lost_runs(mut self, runs: u32) -> Self {
        self.policy.max_lost_runs = runs;
        self
    }

    #[must_use]
    pub const fn encrypt(mut self, encrypt: bool) -> Self {
        self.encrypt = Some(encrypt);
        self
    }
}
