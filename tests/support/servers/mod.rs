//! Private database servers for the tests that need one: on loopback, each in a directory of its own. They end with the test
//! process, however that ends. `TASKFLOW_TEST_POSTGRES_URL` and `TASKFLOW_TEST_REDIS_URL` name servers to share instead.
//!
//! A test whose server is not installed says so and is skipped; where `TASKFLOW_TEST_REQUIRE` names it
//! (`postgres,redis`, for example), it fails. The same holds for other needs of a test: `chromium`, `faketime`, `mount`,
//! `pgbouncer` and `promtool`.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

pub(crate) mod pooler;
pub(crate) mod postgres;
pub(crate) mod redis;

/// The longest a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Prints that there is no such server. Panics if `TASKFLOW_TEST_REQUIRE` names it.
pub(crate) fn missing(server: &str, why: &str) {
    let required = std::env::var("TASKFLOW_TEST_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|one| one.trim() == server);
    assert!(!is_required, "TASKFLOW_TEST_REQUIRE names {server}, but {why}");
    eprintln!("skipped: {why}");
}

/// The program of that name: in one of these directories, or on the `PATH`.
pub(crate) fn find_program(name: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path);
    let mut candidates = directories.iter().cloned().chain(on_path).map(|directory| directory.join(name));
    candidates.find(|candidate| candidate.is_file())
}

/// A port of the loopback interface on which nothing listens.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("it is bound").port()
}

/// A word that no other namespace of any test run has, for tests that share a server.
pub(crate) fn fresh_namespace() -> String {
    let id = taskflow::TaskId::new().to_string().replace('-', "");
    format!("t{}", &id[8..])
}

/// Makes a store at this URL and returns the URL, so that a process that only connects finds a store.
pub(crate) fn made(url: String) -> String {
    let migrating = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let migrate = taskflow::TaskManager::builder().store(&*url).migrate();
        runtime.expect("a runtime").block_on(migrate).expect("a store is made");
        url
    });
    migrating.join().expect("a store is made")
}

/// Asks until the answer is `true`.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A server process that this process started. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self { child: command.stdin(Stdio::null()).spawn().expect("the server starts") }
    }

    /// Whether the process has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // The process may have ended by itself.
        let _ = kill_process(pid, signal);
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(&mut self, signal: Signal) {
        if self.is_running() {
            self.signal(signal);
            wait_until("a server to end", || !self.is_running());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Signal::KILL);
    }
}

/// Whether there is a process of that number.
pub(crate) fn exists(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// Ends a server and removes its directory when this process ends, even by `kill -9`, or when it is dropped. Statics
/// are never dropped, so a server that the tests of one binary share needs it.
#[derive(Debug)]
pub(crate) struct Guardian {
    /// Closed by the system when this process ends; that is what the guardian waits for.
    _stdin: ChildStdin,
}

impl Guardian {
    /// The first line of `pid_file`, while it is there, is the number of the process to send `signal` to.
    #[expect(clippy::zombie_processes, reason = "it outlives this process, by design")]
    pub(crate) fn over(directory: &Path, pid_file: &Path, signal: &str) -> Self {
        let script = r#"
            cat >/dev/null
            pid=$(head -n 1 "$2" 2>/dev/null)
            [ -n "$pid" ] && kill -"$3" "$pid" 2>/dev/null
            for _ in 1 2 3 4 5 6 7 8 9 10; do
                { [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; } || break
                sleep 0.3
            done
            rm -rf "$1"
        "#;
        let mut guardian = Command::new("sh")
            .args(["-c", script, "guardian"])
            .args([directory, pid_file])
            .arg(signal)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        Self { _stdin: guardian.stdin.take().expect("it is piped") }
    }
}
