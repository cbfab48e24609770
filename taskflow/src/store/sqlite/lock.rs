//! Which processes live: each has locked a file of its own beside the database, and the system lets go of the lock
//! when the process is gone, however it went.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use crate::model::{InstanceId, StoreError, StoreErrorKind};

/// The lock files of one database, and those of them that this store holds.
#[derive(Debug)]
pub(super) struct Locks {
    directory: PathBuf,
    /// `None` where the file system has no locks: then only leases tell.
    held: Mutex<HashMap<InstanceId, Option<File>>>,
}

/// What a lock says of a process.
#[derive(Debug)]
pub(super) enum Liveness {
    /// It holds its lock.
    Lives,
    /// It let go of its lock. Whoever has this has locked it instead.
    Dead(#[expect(dead_code, reason = "held for its lock")] File),
    /// There is no file, or it cannot be locked. Only its leases tell.
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

    /// Locks the file of an instance of this process. To be done before anybody can know of the instance, since whoever
    /// knows of it and finds its file not locked takes it for dead.
    pub(super) fn take(&self, instance: InstanceId) -> Result<(), StoreError> {
        let mut held = self.held.lock();
        if held.contains_key(&instance) {
            return Ok(());
        }
        let path = self.file(instance);
        let file = self.lock_new(&path).map_err(|error| {
            let message = format!(
                "`{}` cannot be created; give this process the right to write beside its database",
                path.display()
            );
            StoreError::with_source(StoreErrorKind::Denied, message, error)
        })?;
        held.insert(instance, file);
        Ok(())
    }

    fn lock_new(&self, path: &Path) -> io::Result<Option<File>> {
        let file = self.create(path)?;
        // Only an instance that joins again under an old id can meet somebody who looks whether it lives.
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
        // Another handle of this process holds it for the same instance.
        Ok(None)
    }

    /// Creates a file in the directory, which the last instance that leaves takes with it: at any moment.
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

    /// Lets go of an instance of this process that ends in order.
    pub(super) fn unlock(&self, instance: InstanceId) {
        if self.held.lock().remove(&instance).flatten().is_some() {
            self.forget(instance);
        }
    }

    /// Removes the file of an instance that is gone.
    pub(super) fn forget(&self, instance: InstanceId) {
        // Left over, it harms nobody: an instance that is marked as gone is not looked for.
        let _ = fs::remove_file(self.file(instance));
        let _ = fs::remove_dir(&self.directory);
    }

    /// How many instances of this process use this store.
    pub(super) fn joined(&self) -> usize {
        self.held.lock().len()
    }

    /// What can be told of an instance. Never creates a file.
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

/// Whether the directory went between two steps: it was there to be created, and not there to be looked at or used.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_come_while_others_take_the_directory_with_them() {
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
