//! SQLite. Its floor is one thread with a `rusqlite` connection that commits all waiting jobs together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use taskflow::store::IntoStore;
use tokio::sync::{Notify, oneshot};

use super::worker::{Shared, Turns, to_json};
use super::{Backend, Facts, NoReader, Target};
use crate::cli::bench::failure::Result;
use crate::cli::bench::ours::Place;
use crate::cli::bench::queue::Queue;
use crate::cli::bench::work::Payload;

/// A directory beside the file in the URL. Each place is a file in it.
#[derive(Debug)]
pub(super) struct Sqlite {
    directory: PathBuf,
    is_full: bool,
    made: AtomicU32,
}

impl Sqlite {
    pub(super) fn open(target: &Target) -> Result<Self> {
        let rest = target.url.strip_prefix("sqlite://").unwrap_or_default();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let is_full = match query {
            "" | "synchronous=full" => true,
            "synchronous=normal" => false,
            _ => {
                return Err(
                    "unknown option in the URL: write no option, `?synchronous=full` or `?synchronous=normal`".into()
                );
            }
        };
        if path.is_empty() {
            return Err("write `sqlite://relative.db` or `sqlite:///absolute.db`".into());
        }
        let path = percent_encoding::percent_decode_str(path).decode_utf8()?.into_owned();
        refuse_if_used(Path::new(&path))?;
        let directory = PathBuf::from(format!("{path}-{}", target.name));
        Ok(Self { directory, is_full, made: AtomicU32::new(0) })
    }

    /// The path of a new file.
    fn file(&self) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.directory).map_err(|error| {
            format!("cannot create the directory `{}`: {error}", self.directory.display())
        })?;
        Ok(self.directory.join(format!("{}.db", self.made.fetch_add(1, Ordering::Relaxed))))
    }

    fn synchronous(&self) -> &'static str {
        if self.is_full { "FULL" } else { "NORMAL" }
    }
}

/// Refuses a file that holds tasks: the user has probably named the wrong file.
fn refuse_if_used(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let find = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'taskflow_tasks'";
    let is_store = connection.query_row(find, [], |_| Ok(())).optional()?.is_some();
    if is_store
        && connection.query_row("SELECT EXISTS (SELECT 1 FROM taskflow_tasks)", [], |row| row.get(0))?
    {
        let path = path.display();
        return Err(format!(
            "`{path}` holds tasks, and the bench does not touch a store with tasks: name a new file"
        )
        .into());
    }
    Ok(())
}

impl Backend for Sqlite {
    type Floor = Floor;
    type Reader = NoReader;

    fn place(&self) -> Result<Place> {
        let path = self.file()?.display().to_string();
        let path = percent_encoding::utf8_percent_encode(&path, percent_encoding::NON_ALPHANUMERIC);
        let synchronous = if self.is_full { "full" } else { "normal" };
        let url = format!("sqlite://{path}?synchronous={synchronous}");
        Ok(Place::new(move || url.as_str().into_store()))
    }

    async fn floor(&self, slots: usize) -> Result<Floor> {
        let connection = Connection::open(self.file()?)?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.execute_batch(&format!("PRAGMA synchronous = {};", self.synchronous()))?;
        connection.execute_batch(SCHEMA)?;
        let (jobs, receiver) = channel();
        let (shared, new_tasks) = (Shared::new(slots), Arc::new(Notify::new()));
        let notify = Arc::clone(&new_tasks);
        let thread = std::thread::spawn(move || write(&connection, &receiver, &notify));
        Ok(Floor { jobs, shared, new_tasks, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    async fn facts(&self) -> Result<Facts> {
        let file = self.file()?;
        let probing = file.clone();
        let probed = tokio::task::spawn_blocking(move || probe_disk(&probing)).await?;
        std::fs::remove_file(file)?;
        let probed = probed?;
        Ok(Facts::from([
            ("sqlite", rusqlite::version().to_owned()),
            ("durability", format!("journal_mode WAL, synchronous {}", self.synchronous())),
            ("fdatasync of 4 KiB", format!("median {} us", probed.as_micros())),
            ("floor", "rusqlite, one thread, group commit".to_owned()),
        ]))
    }

    async fn read(&self) -> Result<NoReader> {
        NoReader::open()
    }

    async fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The median time the disk takes to make 4 KiB durable: the largest part of a commit under `FULL`.
fn probe_disk(path: &Path) -> Result<Duration> {
    use std::io::Write;

    let mut file = std::fs::File::create(path)?;
    let mut times = Vec::new();
    for _ in 0..64 {
        let since = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(since.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

const SCHEMA: &str = "
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY,
    status INTEGER NOT NULL DEFAULT 0,  -- 0 waiting, 1 running, 2 finished
    payload TEXT NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (unixepoch()),
    finished_at INTEGER
);
CREATE INDEX tasks_waiting ON tasks (id) WHERE status = 0;
";

/// Tasks claimed at once.
const CLAIM: i64 = 256;

/// The most jobs that join the first one in a commit.
const GATHER: usize = 1_024;

/// The handle of the floor's thread.
#[derive(Clone, Debug)]
pub(super) struct Floor {
    jobs: Sender<Job>,
    shared: Arc<Shared>,
    /// Notified after each commit that inserted tasks.
    new_tasks: Arc<Notify>,
    thread: Arc<Mutex<Option<JoinHandle<rusqlite::Result<()>>>>>,
}

type Claimed = Vec<(i64, String)>;

#[derive(Debug)]
enum Job {
    Insert { payloads: Vec<String>, done: oneshot::Sender<()> },
    Turn { finished: Vec<i64>, done: oneshot::Sender<Claimed> },
}

/// Commits all waiting jobs together, until all senders are gone.
fn write(connection: &Connection, jobs: &Receiver<Job>, new_tasks: &Notify) -> rusqlite::Result<()> {
    let mut begin = connection.prepare("BEGIN IMMEDIATE")?;
    let mut commit = connection.prepare("COMMIT")?;
    let mut insert = connection.prepare("INSERT INTO tasks (payload) VALUES (?1)")?;
    let mut finish =
        connection.prepare("UPDATE tasks SET status = 2, finished_at = unixepoch() WHERE id = ?1")?;
    let mut claim = connection.prepare(
        "UPDATE tasks SET status = 1
         WHERE id IN (SELECT id FROM tasks WHERE status = 0 ORDER BY id LIMIT ?1)
         RETURNING id, payload",
    )?;
    while let Ok(first) = jobs.recv() {
        let (mut inserted, mut turned) = (Vec::new(), Vec::new());
        begin.execute([])?;
        for job in std::iter::once(first).chain(jobs.try_iter().take(GATHER)) {
            match job {
                Job::Insert { payloads, done } => {
                    for payload in &payloads {
                        insert.execute([payload])?;
                    }
                    inserted.push(done);
                }
                Job::Turn { finished, done } => {
                    for id in finished {
                        finish.execute([id])?;
                    }
                    let rows = claim.query_map(params![CLAIM], |row| Ok((row.get(0)?, row.get(1)?)))?;
                    turned.push((done, rows.collect::<rusqlite::Result<Claimed>>()?));
                }
            }
        }
        commit.execute([])?;
        if !inserted.is_empty() {
            new_tasks.notify_one();
        }
        // A dropped receiver means that the caller no longer waits.
        for done in inserted {
            let _ = done.send(());
        }
        for (done, claimed) in turned {
            let _ = done.send(claimed);
        }
    }
    Ok(())
}

impl Floor {
    async fn insert(&self, payloads: Vec<String>) -> Result<()> {
        let count = payloads.len() as u64;
        let (done, answer) = oneshot::channel();
        self.shared.added.fetch_add(count, Ordering::Relaxed);
        self.jobs.send(Job::Insert { payloads, done })?;
        Ok(answer.await?)
    }
}

/// The worker's handle of the thread.
struct Claimer {
    jobs: Sender<Job>,
    new_tasks: Arc<Notify>,
}

impl Turns for Claimer {
    type Id = i64;

    async fn turn(&mut self, finished: Vec<i64>) -> Result<Claimed> {
        let (done, answer) = oneshot::channel();
        self.jobs.send(Job::Turn { finished, done })?;
        Ok(answer.await?)
    }

    async fn idle(&mut self) {
        self.new_tasks.notified().await;
    }
}

impl Queue for Floor {
    async fn add(&self, payload: Payload) -> Result<()> {
        self.insert(vec![to_json(&payload)?]).await
    }

    async fn add_all(&self, payloads: Vec<Payload>) -> Result<()> {
        self.insert(payloads.iter().map(to_json).collect::<Result<_>>()?).await
    }

    async fn prepare(self) -> Result<Self> {
        Ok(self)
    }

    async fn run(&self) -> Result<()> {
        self.shared.work(Claimer { jobs: self.jobs.clone(), new_tasks: Arc::clone(&self.new_tasks) });
        Ok(())
    }

    async fn unfinished(&self) -> Result<u64> {
        self.shared.unfinished()
    }

    async fn close(self) -> Result<()> {
        self.shared.stop().await;
        let thread = self.thread.lock().take();
        drop(self.jobs);
        if let Some(thread) = thread {
            let ended = tokio::task::spawn_blocking(move || thread.join()).await?;
            ended.map_err(|_| "the floor's thread panicked")??;
        }
        Ok(())
    }
}
