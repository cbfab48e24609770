//! Configures what a manager seals (encrypts): which tasks, and which of their parts.

use std::fmt;
use std::sync::Arc;

use super::Keys;

/// Configures what a manager seals (encrypts), and with which keys. Give it to
/// [`TaskManagerBuilder::encrypt`](crate::TaskManagerBuilder::encrypt).
///
/// By default it seals arguments and results. Call [`args`](Self::args), [`results`](Self::results),
/// [`errors`](Self::errors) and [`logs`](Self::logs) to choose: once one of them is called, exactly the named parts are sealed.
///
/// ```
/// use taskflow::crypt::{Encrypt, Key};
///
/// let arguments_and_results = Encrypt::new(Key::generate());
/// let all = Encrypt::new(Key::generate()).args().results().errors().logs();
/// # let _ = (arguments_and_results, all);
/// ```
///
/// Opening (decrypting) needs no configuration: a process opens every value that is sealed with one of its keys.
#[derive(Clone)]
#[must_use = "it does nothing until `TaskManager::builder().encrypt(..)`"]
pub struct Encrypt {
    keys: Arc<dyn Keys>,
    chosen: Option<Parts>,
    marked_only: bool,
    strict: bool,
}

/// The parts of a task that are sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) args: bool,
    pub(crate) results: bool,
    pub(crate) errors: bool,
    pub(crate) logs: bool,
}

impl Encrypt {
    /// Seals arguments and results with the current key of `keys`: a [`Keyring`](super::Keyring), a single
    /// [`Key`](super::Key), or a ring of your own.
    pub fn new(keys: impl Keys) -> Self {
        Self { keys: Arc::new(keys), chosen: None, marked_only: false, strict: false }
    }

    /// Seals arguments, and of the other parts only those that are named too.
    pub fn args(mut self) -> Self {
        self.chosen.get_or_insert_default().args = true;
        self
    }

    /// Seals results, and of the other parts only those that are named too.
    pub fn results(mut self) -> Self {
        self.chosen.get_or_insert_default().results = true;
        self
    }

    /// Seals the errors and panics of tasks, which may quote arguments. Errors of taskflow itself, such as that of a timeout,
    /// stay readable. The failures page groups sealed errors by task and key alone.
    pub fn errors(mut self) -> Self {
        self.chosen.get_or_insert_default().errors = true;
        self
    }

    /// Seals log lines. Their level and time stay readable.
    pub fn logs(mut self) -> Self {
        self.chosen.get_or_insert_default().logs = true;
        self
    }

    /// Seals only tasks that are marked with `#[task(encrypt)]`. Without this, all tasks are sealed except those with
    /// `#[task(encrypt = false)]`.
    pub fn marked_only(mut self) -> Self {
        self.marked_only = true;
        self
    }

    /// Refuses to run a task with unsealed arguments that this manager would have sealed: a task that was added by SQL, or by a
    /// process without keys. Such a task ends as failed and is not retried. Turn this on only when all tasks that were added
    /// before encryption have ended.
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    pub(crate) fn keys(&self) -> &dyn Keys {
        &*self.keys
    }

    pub(crate) fn parts(&self) -> Parts {
        self.chosen.unwrap_or(Parts { args: true, results: true, ..Parts::default() })
    }

    /// Whether a task with this mark is sealed.
    pub(crate) fn applies(&self, mark: Option<bool>) -> bool {
        mark.unwrap_or(!self.marked_only)
    }

    pub(crate) fn is_strict(&self) -> bool {
        self.strict
    }
}

impl fmt::Debug for Encrypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encrypt")
            .field("current", &self.keys.current())
            .field("parts", &self.parts())
            .field("marked_only", &self.marked_only)
            .field("strict", &self.strict)
            .finish_non_exhaustive()
    }
}
