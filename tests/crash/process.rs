//! Processes that can be killed, and the store and ledger that they share.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use taskflow::{NewTask, TaskFilter, TaskId, TaskManager};
use tempfile::TempDir;

use crate::servers::{self, postgres::PostgresServer, redis::RedisServer};

/// The longest time between two lines of a process, or between its last line and its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Environment variables, in addition to those of this process.
pub(crate) type Environment = Vec<(&'static str, String)>;

/// A store and a ledger that several processes share.
pub(crate) struct Lab {
    /// Unmounted before its directory is removed.
    _disk: Option<SmallDisk>,
    directory: TempDir,
    ledger: Arc<TempDir>,
    url: String,
    lease: Duration,
    server: Mutex<Option<Box<dyn DatabaseServer>>>,
    /// How far the ledger has been read for ended runs, and how many there were.
    ends: Mutex<(u64, usize)>,
}

/// A file system of 160 MiB.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: &Path) -> Option<Self> {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=160m", "tmpfs"]).arg(place).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(place.to_owned()));
        }
        servers::missing("mount", "this user may not mount a small disk");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // No process has a file on it open: the workers are gone.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A server that the test stops and starts.
pub(crate) trait DatabaseServer: Send {
    fn kill(&mut self);
    fn restart(&mut self);
}

impl DatabaseServer for RedisServer {
    fn kill(&mut self) {
        Self::kill(self);
    }

    fn restart(&mut self) {
        Self::restart(self);
    }
}

impl DatabaseServer for PostgresServer {
    fn kill(&mut self) {
        Self::kill(self);
    }

    fn restart(&mut self) {
        Self::restart(self);
    }
}

impl Lab {
    pub(crate) fn at(url: String, directory: TempDir) -> Self {
        let ledger = Arc::new(tempfile::tempdir().unwrap());
        let url = servers::made(url);
        Self {
            _disk: None,
            directory,
            ledger,
            url,
            lease: Duration::from_secs(1),
            server: Mutex::new(None),
            ends: Mutex::default(),
        }
    }

    pub(crate) fn sqlite() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("tasks.db").display());
        // The lease does not matter here: the lock of a dead process is free.
        Some(Self { lease: Duration::from_secs(10), ..Self::at(url, directory) })
    }

    /// A store on a disk of its own, with room for the log at its longest (64 MiB) and more. The ledger is elsewhere. `None`,
    /// with a note, if this user may not mount a disk.
    pub(crate) fn sqlite_on_a_small_disk() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let disk = SmallDisk::mount(directory.path())?;
        let url = format!("sqlite://{}", directory.path().join("tasks.db").display());
        let lab = Self::at(url, directory);
        Some(Self { _disk: Some(disk), lease: Duration::from_secs(10), ..lab })
    }

    /// A namespace of the server that these tests share; `None` if there is no Redis here.
    pub(crate) fn redis() -> Option<Self> {
        Some(Self::at(servers::redis::shared_url()?, tempfile::tempdir().unwrap()))
    }

    /// A server of its own, to be killed.
    pub(crate) fn redis_alone() -> Option<Self> {
        let server = RedisServer::start()?;
        let lab = Self::at(server.url(), tempfile::tempdir().unwrap());
        Some(Self { server: Mutex::new(Some(Box::new(server))), ..lab })
    }

    /// A namespace of the server that these tests share; `None` if there is no PostgreSQL here.
    pub(crate) fn postgres() -> Option<Self> {
        Some(Self::at(servers::postgres::shared_url()?, tempfile::tempdir().unwrap()))
    }

    /// A server of its own, to be killed.
    pub(crate) fn postgres_alone() -> Option<Self> {
        let server = PostgresServer::start()?;
        let lab = Self::at(server.url(), tempfile::tempdir().unwrap());
        Some(Self { server: Mutex::new(Some(Box::new(server))), ..lab })
    }

    #[must_use]
    pub(crate) fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// The same ledger, and another way to the store.
    pub(crate) fn with_url(&self, url: String) -> Self {
        let (directory, server) = (tempfile::tempdir().unwrap(), Mutex::new(None));
        let ledger = Arc::clone(&self.ledger);
        Self { _disk: None, directory, ledger, url, lease: self.lease, server, ends: Mutex::default() }
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite:")
    }

    pub(crate) fn kill_server(&self) {
        self.server.lock().unwrap().as_mut().expect("a server of its own").kill();
    }

    pub(crate) fn restart_server(&self) {
        self.server.lock().unwrap().as_mut().expect("a server of its own").restart();
    }

    fn ledger_path(&self) -> PathBuf {
        self.ledger.path().join("ledger")
    }

    pub(crate) fn ledger(&self) -> String {
        // The last line may be half written at this moment, by a process that is alive.
        let text = std::fs::read_to_string(self.ledger_path()).unwrap_or_default();
        text[..text.rfind('\n').map_or(0, |end| end + 1)].to_owned()
    }

    pub(crate) async fn connect(&self) -> TaskManager {
        TaskManager::builder().store(&self.url).lease(self.lease).connect().await.unwrap()
    }

    /// Starts a worker; one that runs tasks is ready when this returns.
    pub(crate) fn start(&self, args: &[&str]) -> Process {
        self.start_with(args, &[])
    }

    /// The same in another environment.
    pub(crate) fn start_with(&self, args: &[&str], environment: &[(&str, String)]) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_worker"))
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .arg(&self.url)
            .arg(self.ledger_path())
            .args(args)
            .env("LEASE_MS", self.lease.as_millis().to_string())
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stderr) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        let process = Process { child, stdout, stderr };
        if args[0] != "add" {
            // A process that was given poison may be gone before it is ready.
            let line = process.next(&process.stdout);
            assert!(line.as_deref().is_none_or(|line| line == "ready"), "{line:?}");
        }
        process
    }

    /// Environments whose clocks are an hour late and an hour early. `None`, with a note, without libfaketime.
    pub(crate) fn wrong_clocks(&self) -> Option<[Environment; 2]> {
        let library = clock_library()?;
        let offsets = ["-1h", "+1h"].map(|offset| ("FAKETIME", offset.to_owned()));
        Some(offsets.map(|offset| wrong_clock(&library, &[offset])))
    }

    /// An environment whose clock is off by the last set amount. `None`, with a note, without libfaketime.
    pub(crate) fn a_clock_to_set(&self) -> Option<(Environment, impl Fn(&str))> {
        let library = clock_library()?;
        let file = self.ledger.path().join("clock");
        let set = {
            let file = file.clone();
            move |offset: &str| std::fs::write(&file, format!("{offset}\n")).unwrap()
        };
        let file = file.display().to_string();
        let how = [("FAKETIME_TIMESTAMP_FILE", file), ("FAKETIME_NO_CACHE", "1".to_owned())];
        Some((wrong_clock(&library, &how), set))
    }

    fn ballast(&self) -> PathBuf {
        self.directory.path().join("ballast")
    }

    /// Leaves no room on the disk of the lab.
    pub(crate) fn fill_disk(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let block = vec![0; 16 * 1024];
        // Until the disk says that it is full.
        while ballast.write_all(&block).is_ok() {}
    }

    pub(crate) fn empty_disk(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    /// Waits for a condition. Panics if it does not hold within `limit`.
    pub(crate) async fn until<F: Future<Output = bool>>(&self, limit: Duration, condition: impl Fn() -> F) {
        let begin = Instant::now();
        while !condition().await {
            assert!(begin.elapsed() < limit, "the condition did not hold within {limit:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until this many runs have ended in all.
    pub(crate) async fn until_ends(&self, count: usize) {
        self.until(Duration::from_secs(30), || async { self.ends() >= count }).await;
    }

    /// How many runs have ended. A ledger grows long, so only its new part is read.
    pub(crate) fn ends(&self) -> usize {
        let (read, ends) = &mut *self.ends.lock().unwrap();
        let Ok(mut ledger) = File::open(self.ledger_path()) else { return 0 };
        ledger.seek(SeekFrom::Start(*read)).unwrap();
        let mut news = String::new();
        ledger.read_to_string(&mut news).unwrap();
        let whole = news.rfind('\n').map_or(0, |end| end + 1);
        *read += whole as u64;
        *ends += news[..whole].lines().filter(|line| line.starts_with("end ")).count();
        *ends
    }

    pub(crate) fn starts_of(&self, id: TaskId) -> usize {
        let start = format!("start {id} ");
        self.ledger().lines().filter(|line| line.starts_with(&start)).count()
    }

    /// A task that may run again and takes that long.
    pub(crate) async fn add_slow(&self, tasks: &TaskManager, length: Duration) -> TaskId {
        let mut task = self.by_name("again", length);
        task.policy.to_mut().requeue_on_interrupt = true;
        task.tags.insert("slow".to_owned(), "yes".to_owned());
        tasks.add_all([task]).await.unwrap()[0].id()
    }

    /// Tasks that may not run twice and end at once.
    pub(crate) async fn add_many_once(&self, tasks: &TaskManager, count: usize) {
        tasks.add_all((0..count).map(|_| self.by_name("once", Duration::ZERO))).await.unwrap();
    }

    pub(crate) async fn add_stubborn(&self, tasks: &TaskManager, length: Duration) -> TaskId {
        tasks.add_all([self.by_name("stubborn", length)]).await.unwrap()[0].id()
    }

    /// A task that may not run twice and takes that long.
    pub(crate) async fn add_once(&self, tasks: &TaskManager, length: Duration) -> TaskId {
        tasks.add_all([self.by_name("once", length)]).await.unwrap()[0].id()
    }

    /// This process adds tasks by name, because only the workers know them.
    fn by_name(&self, name: &'static str, length: Duration) -> NewTask {
        NewTask::new(name, Ok(format!("{{\"millis\":{}}}", length.as_millis()).into()))
    }

    pub(crate) async fn unfinished_but_slow(&self, tasks: &TaskManager) -> u64 {
        let slow = tasks.list(TaskFilter::new().tag("slow", "yes")).await.unwrap().items;
        let waiting = slow.iter().filter(|task| !task.status.is_final()).count() as u64;
        tasks.counts().await.unwrap().unfinished() - waiting
    }
}

fn clock_library() -> Option<String> {
    let places = ["x86_64", "aarch64"]
        .map(|machine| format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketime.so.1"));
    let library = places.into_iter().find(|library| Path::new(library).exists());
    if library.is_none() {
        servers::missing("faketime", "libfaketime (Debian's package `faketime`) is not installed here");
    }
    library
}

fn wrong_clock(library: &str, how: &[(&'static str, String)]) -> Environment {
    let library = [("LD_PRELOAD", library.to_owned()), ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned())];
    library.into_iter().chain(how.iter().cloned()).collect()
}

/// The lines that a process prints. A thread reads them at once, so that the process does not wait for a reader.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let lines = BufReader::new(pipe).lines().map_while(Result::ok);
    std::thread::spawn(move || lines.for_each(|line| drop(sender.send(line))));
    receiver
}

/// A worker.
pub(crate) struct Process {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// SIGKILL. The process is gone when this returns.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Makes the process stand still until [`go_on`](Self::go_on).
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end of the process, and returns its output.
    pub(crate) fn wait_for_end(&mut self) -> String {
        let mut said = String::new();
        for lines in [&self.stdout, &self.stderr] {
            while let Some(line) = self.next(lines) {
                said.push_str(&line);
                said.push('\n');
            }
        }
        self.child.wait().unwrap();
        said
    }

    /// The next line, or `None` when the process has ended.
    fn next(&self, lines: &Receiver<String>) -> Option<String> {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("process {} neither said a word nor ended", self.pid()),
        }
    }

    /// Waits for the end of the process, and checks that it succeeded.
    pub(crate) fn ended_well(mut self) -> String {
        let said = self.wait_for_end();
        assert!(self.child.wait().unwrap().success(), "{said}");
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A failed test leaves no process behind. A process that has ended is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
