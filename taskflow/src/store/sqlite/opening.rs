//! Starts the threads of a store.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::error::store_error;
use super::identity::FileIdentity;
use super::integrity::IntegrityChecks;
use super::lock::Locks;
use super::reader::{self, Question};
use super::store::{Shared, SqliteStore};
use super::writer::Writer;
use super::{Synchronous, checkpoint, connection, open};
use crate::model::{Error, StoreError, StoreErrorKind};

/// The number of threads that read.
const READERS: usize = 2;

impl SqliteStore {
    /// Opens a file. If there is no store in it, `makes` says whether to create one; if not, this fails. A store that can only
    /// be read is opened as a read-only store.
    pub(super) fn open_or_make(path: &Path, synchronous: Synchronous, makes: bool) -> Result<Self, Error> {
        match Self::open_to_write(path, synchronous, makes) {
            Err(Error::Store(error))
                if !matches!(error.kind(), StoreErrorKind::NotAStore | StoreErrorKind::NewerSchema) =>
            {
                Self::open_read_only(path, error)
            }
            opened => opened,
        }
    }

    /// Opens a read-only store, which refuses every write with the error `refused`.
    fn open_read_only(path: &Path, refused: StoreError) -> Result<Self, Error> {
        let Some((connection, path)) = open::open_read_only(path)? else { return Err(Error::Store(refused)) };
        let mut shared = Shared {
            path: path.clone(),
            synchronous: Synchronous::default(),
            locks: Arc::new(Locks::beside(&path)),
            integrity: Arc::default(),
            changes: watch::channel(()).0,
            refused: Some(refused),
            writer: None,
            readers: None,
            write_thread: None,
            read_threads: Vec::new(),
        };
        let (questions, asked) = channel();
        shared.readers = Some(questions);
        let asked = Arc::new(Mutex::new(asked));
        let answering = move || reader::run_read_only(&path, connection, &asked);
        shared.read_threads.push(spawn("taskflow-sqlite-read", answering)?);
        Ok(Self { shared: Arc::new(shared) })
    }

    fn open_to_write(path: &Path, synchronous: Synchronous, makes: bool) -> Result<Self, Error> {
        let (connection, path) = open::open(path, synchronous, makes)?;
        let locks = Arc::new(Locks::beside(&path));
        let integrity = Arc::new(IntegrityChecks::default());
        let failed = |error| Error::Store(store_error(error, &path));
        let (checkpoints, checkpointer) = checkpoint::checkpoints(&path, synchronous).map_err(failed)?;
        let checkpoints = checkpoints.by(spawn("taskflow-sqlite-log", move || checkpointer.run())?);
        let readers: Vec<_> = (0..READERS)
            .map(|_| connection::open_to_read(&path))
            .collect::<Result<_, _>>()
            .map_err(failed)?;

        let (changes, _) = watch::channel(());
        let (jobs, inbox) = channel();
        let (questions, asked) = channel();
        let mut shared = Shared {
            path: path.clone(),
            synchronous,
            locks: Arc::clone(&locks),
            integrity: Arc::clone(&integrity),
            changes: changes.clone(),
            refused: None,
            writer: Some(jobs),
            readers: Some(questions),
            write_thread: None,
            read_threads: Vec::new(),
        };
        let file = FileIdentity::at(&path).map_err(|error| {
            let message = format!("`{}` cannot be examined", path.display());
            StoreError::with_source(StoreErrorKind::Denied, message, error)
        })?;
        let writer = Writer {
            path,
            inbox,
            changes,
            locks,
            checkpoints,
            file,
            integrity,
            is_full: std::cell::Cell::new(false),
        };
        // From here on, an error drops `shared`, which ends the started threads.
        shared.write_thread = Some(spawn("taskflow-sqlite", move || writer.run(&connection))?);
        let asked: Arc<Mutex<Receiver<Question>>> = Arc::new(Mutex::new(asked));
        for connection in readers {
            let asked = Arc::clone(&asked);
            let thread = spawn("taskflow-sqlite-read", move || reader::run(&connection, &asked))?;
            shared.read_threads.push(thread);
        }
        Ok(Self { shared: Arc::new(shared) })
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| {
        let message = "no thread could be started for the store; raise the limit of threads, or of memory";
        Error::Store(StoreError::with_source(StoreErrorKind::Unavailable, message, error))
    })
}
