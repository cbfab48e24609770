//! Which processes are alive. Each process locks a file of its own beside the database. The system releases the lock
//! when the process ends, in whatever way.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use crate::model::{InstanceId, StoreError, StoreErrorKind};

/// The lock files of one database, and the locks that this store holds.
#[derive(Debug)]
pub(super) struct Locks {
    directory: PathBuf,
    /// `None` if the file system has no locks, or if another handle of this process holds the lock. Without locks, other
    /// processes see the process only as [`Liveness::Unknown`].
    held: Mutex<HashMap<InstanceId, Option<File>>>,
}

/// What a lock file shows about a process.
#[derive(Debug)]
pub(super) enum Liveness {
    /// The process holds its lock: it is alive.
    Lives,
    /// The process no longer holds its lock: it is dead. This value now holds the lock.
    Dead(#[expect(dead_code, reason = "held for its lock")] File),
    /// There is no file, or it cannot be locked. Then the process counts as alive for 60 s after it was last seen.
    Unknown,
}

impl Locks {
    /// The locks of the database at that path.
    pub(super) fn beside(database: &Path) -> Self {
        let mut directory = database.as_os_str().to_owned();
        directory.push("-taskflow");
        Self { directory: PathBuf::from(directory), held: Mutex::default() }
    }

    fn file(&self, instance: InstanceId) -> PathBuf {
        self.directory.join(format!("{instance}.lock"))
    }

    /// Locks the file of an instance of this process. Call it before any other process can know the instance: a process
    /// that knows the instance and finds its file unlocked considers it dead.
    pub(super) fn take(&self, instance: InstanceId) -> Result<(), StoreError> {
        let mut held = self.held.lock();
        if held.contains_key(&instance) {
            return Ok(());
        }
        let path = self.file(instance);
        let file = self.lock_new(&path).map_err(|error| {
            let message = format!(
                "`{}` cannot be created or locked; check that this process may write beside its database, \
                 and that the disk has room",
                path.display()
            );
            StoreError::with_source(StoreErrorKind::Denied, message, error)
        })?;
        held.insert(instance, file);
        Ok(())
    }

    fn lock_new(&self, path: &Path) -> io::Result<Option<File>> {
        let file = self.create(path)?;
        // Another process may hold the lock for a moment to probe it, but only if the instance joins again under an old
        // id.
        for _ in 0..100 {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    return Ok(None);
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        // Another handle of this process holds the lock for the same instance.
        Ok(None)
    }

    /// Creates a file in the directory. The last instance that leaves removes the directory, which can happen at any
    /// moment: so this tries again.
    fn create(&self, path: &Path) -> io::Result<File> {
        let mut create = OpenOptions::new();
        create.create(true).truncate(false).write(true);
        let mut tries = 0;
        loop {
            tries += 1;
            match fs::create_dir_all(&self.directory).and_then(|()| create.open(path)) {
                Err(error) if tries < 1_000 && is_gone(&error) => {}
                answer => return answer,
            }
        }
    }

    /// Releases the lock of an instance of this process that shuts down in order, and removes its file.
    pub(super) fn unlock(&self, instance: InstanceId) {
        if self.held.lock().remove(&instance).flatten().is_some() {
            self.forget(instance);
        }
    }

    /// Removes the file of an instance that is gone.
    pub(super) fn forget(&self, instance: InstanceId) {
        // A leftover file does no harm: nobody probes an instance that is marked as gone.
        let _ = fs::remove_file(self.file(instance));
        let _ = fs::remove_dir(&self.directory);
    }

    /// The number of instances of this process that use this store.
    pub(super) fn joined(&self) -> usize {
        self.held.lock().len()
    }

    /// Checks whether an instance is alive. Never creates a file.
    pub(super) fn probe(&self, instance: InstanceId) -> Liveness {
        if self.held.lock().contains_key(&instance) {
            return Liveness::Lives;
        }
        let Ok(file) = OpenOptions::new().write(true).open(self.file(instance)) else {
            return Liveness::Unknown;
        };
        match file.try_lock() {
            Ok(()) => Liveness::Dead(file),
            Err(TryLockError::WouldBlock) => Liveness::Lives,
            Err(TryLockError::Error(_)) => Liveness::Unknown,
        }
    }
}

/// Whether the error says that another process removed or created the directory between two steps.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_join_while_others_remove_the_directory() {
        let place = tempfile::tempdir().unwrap();
        let database = place.path().join("tasks.db");
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    let locks = Locks::beside(&database);
                    for _ in 0..2_000 {
                        let instance = InstanceId::new();
                        locks.take(instance).unwrap();
                        assert!(matches!(Locks::beside(&database).probe(instance), Liveness::Lives));
                        locks.unlock(instance);
                    }
                });
            }
        });
        assert!(!place.path().join("tasks.db-taskflow").exists());
    }
}
