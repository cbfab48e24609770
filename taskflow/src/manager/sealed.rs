//! The methods of the builder and the manager for encryption at rest.

use super::{TaskManager, TaskManagerBuilder};
use crate::crypt::{Encrypt, OpenError};
use crate::model::{LogLine, TaskRecord};

impl TaskManagerBuilder {
    /// Encrypts (seals) what the store keeps of tasks: by default their arguments and results. See [`Encrypt`] and
    /// [`crypt`](crate::crypt). The last call wins.
    ///
    /// Every process that adds, runs or waits for these tasks needs the keys. A process without keys can do everything else.
    ///
    /// ```
    /// use taskflow::TaskManager;
    /// use taskflow::crypt::{Encrypt, Key, Keyring};
    ///
    /// # fn demo() -> Result<(), taskflow::crypt::KeyError> {
    /// let keys = Keyring::new(Key::from_env("TASKFLOW_KEY_2026")?).also(Key::from_env("TASKFLOW_KEY_2025")?);
    /// let builder = TaskManager::builder().store("sqlite://tasks.db").encrypt(Encrypt::new(keys));
    /// # drop(builder);
    /// # Ok(())
    /// # }
    /// ```
    pub fn encrypt(mut self, encrypt: Encrypt) -> Self {
        self.encrypt = Some(encrypt);
        self
    }
}

impl TaskManager {
    /// The record with its sealed parts decrypted: arguments, result and errors. [`get`](Self::get) and [`list`](Self::list)
    /// return a record as it is stored; pass it to this method, which makes no call to the store.
    ///
    /// # Errors
    /// [`OpenError`] when this process lacks a key, or a part was changed since it was sealed.
    pub fn open(&self, record: &TaskRecord) -> Result<TaskRecord, OpenError> {
        self.0.core.open_record(record)
    }

    /// The log lines of that task, decrypted. [`logs`](Self::logs) returns them as they are stored.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_logs(&self, record: &TaskRecord, lines: Vec<LogLine>) -> Result<Vec<LogLine>, OpenError> {
        self.0.core.open_lines(record, lines)
    }

    /// Whether this manager was built with keys.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.0.core.has_keys()
    }
}
