//! A private PostgreSQL server.

use std::fs::File;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::process::{Signal, getuid};
use tempfile::TempDir;

use super::{Guardian, Server, find_program, free_port, fresh_namespace, missing, wait_until};

/// A PostgreSQL server of one test (or of all tests of one binary, see [`shared_url`]).
#[derive(Debug)]
pub(crate) struct PostgresServer {
    programs: Programs,
    directory: TempDir,
    port: u16,
    /// `None` while it is stopped.
    server: Option<Server>,
    _guardian: Guardian,
}

/// The URL of an empty store for the tests of this binary, which share one server: each takes a namespace of its own.
/// `None`, with a note, if there is no PostgreSQL.
pub(crate) fn shared_url() -> Option<String> {
    unmade_url().map(super::made)
}

/// The same where nobody has made a store yet.
pub(crate) fn unmade_url() -> Option<String> {
    static SHARED: OnceLock<Option<PostgresServer>> = OnceLock::new();
    let base = match std::env::var("TASKFLOW_TEST_POSTGRES_URL") {
        Ok(url) => url,
        Err(_) => SHARED.get_or_init(PostgresServer::start).as_ref()?.url(),
    };
    let separator = if base.contains('?') { '&' } else { '?' };
    Some(format!("{base}{separator}namespace={}", fresh_namespace()))
}

impl PostgresServer {
    /// A new server with an empty database. `None`, with a note, if there is no PostgreSQL.
    pub(crate) fn start() -> Option<Self> {
        let Some(programs) = Programs::find() else {
            missing("postgres", "no `initdb` of PostgreSQL is installed here");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("taskflow-postgres-").tempdir().expect("a directory");
        if let Some((user, group)) = programs.user {
            chown(directory.path(), Some(user), Some(group)).expect("root may give a directory away");
        }
        let data = directory.path().join("data");
        let made = programs
            .command("initdb")
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres", "-D"])
            .arg(&data)
            .stdin(Stdio::null())
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let guardian = Guardian::over(directory.path(), &data.join("postmaster.pid"), "QUIT");
        let mut server = Self { programs, directory, port: free_port(), server: None, _guardian: guardian };
        server.restart();
        Some(server)
    }

    /// A new server that follows this one, and only reads until it is [promoted](Self::promote).
    pub(crate) fn standby(&self) -> Self {
        let programs = Programs::find().expect("this server has been found");
        let directory = tempfile::Builder::new().prefix("taskflow-postgres-").tempdir().expect("a directory");
        if let Some((user, group)) = programs.user {
            chown(directory.path(), Some(user), Some(group)).expect("root may give a directory away");
        }
        let data = directory.path().join("data");
        let copied = programs
            .command("pg_basebackup")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres"])
            .args(["--checkpoint=fast", "--no-sync", "--wal-method=stream", "--write-recovery-conf", "-D"])
            .arg(&data)
            .stdin(Stdio::null())
            .output()
            .expect("pg_basebackup runs");
        assert!(copied.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&copied.stderr));
        let guardian = Guardian::over(directory.path(), &data.join("postmaster.pid"), "QUIT");
        let mut server = Self { programs, directory, port: free_port(), server: None, _guardian: guardian };
        server.restart();
        server
    }

    /// Ends the recovery of a standby: it is a primary from then on.
    pub(crate) fn promote(&self) {
        assert_eq!(self.query("SELECT pg_promote()"), "t");
    }

    /// Makes it a server that only reads, as a former primary is after a failover.
    pub(crate) fn demote(&mut self) {
        self.stop();
        let signal = self.directory.path().join("data").join("standby.signal");
        File::create(signal).expect("a file in its directory");
        self.restart();
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// The user and group of its programs, if not those of this process.
    pub(crate) fn user(&self) -> Option<(u32, u32)> {
        self.programs.user
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port.
    pub(crate) fn restart(&mut self) {
        wait_until("PostgreSQL to accept connections", || {
            // The remains of an abrupt end (shared memory, the port) may make a first try fail.
            if !self.server.as_mut().is_some_and(Server::is_running) {
                self.server = Some(self.spawn());
            }
            self.accepts()
        });
    }

    /// An orderly, fast shutdown: sessions are ended, and their open transactions are rolled back.
    pub(crate) fn stop(&mut self) {
        self.end(Signal::INT);
    }

    /// As by `kill -9`: the server and its sessions end without an answer, and the server recovers when it starts again.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Runs SQL over a session of its own. Answers its rows, one per line, with `|` between the columns.
    pub(crate) fn query(&self, sql: &str) -> String {
        let port = self.port.to_string();
        let output = self
            .programs
            .command("psql")
            .args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", "postgres"])
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .stdin(Stdio::null())
            .output()
            .expect("psql runs");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut server) = self.server.take() {
            server.end(signal);
        }
    }

    fn spawn(&self) -> Server {
        let log = File::options().create(true).append(true).open(self.directory.path().join("log"));
        let log = log.expect("a log file");
        let sockets = format!("unix_socket_directories={}", self.directory.path().display());
        let mut command = self.programs.command("postgres");
        command.arg("-D").arg(self.directory.path().join("data"));
        command.args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", &sockets]);
        // Tests kill processes, not machines: what was written to the system survives that without fsync.
        command.args(["-c", "fsync=off", "-c", "max_connections=300"]);
        Server::start(command.stdout(log.try_clone().expect("a log file")).stderr(log))
    }

    fn accepts(&self) -> bool {
        let port = self.port.to_string();
        let mut asks = self.programs.command("pg_isready");
        asks.args(["-q", "-h", "127.0.0.1", "-p", &port]).stdin(Stdio::null());
        asks.status().is_ok_and(|status| status.success())
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // Its sessions must end before its directory is removed.
        self.end(Signal::QUIT);
    }
}

/// Where PostgreSQL is installed, and the user that can run it: it refuses to run as root.
#[derive(Debug)]
struct Programs {
    directory: PathBuf,
    /// Another user and its group, if this process is root.
    user: Option<(u32, u32)>,
}

impl Programs {
    fn find() -> Option<Self> {
        let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
            .unwrap_or_default();
        versions.sort();
        versions.reverse();
        let initdb = find_program("initdb", &versions)?;
        let directory = initdb.parent()?.to_owned();
        let user = if getuid().is_root() { Some(postgres_user()?) } else { None };
        Some(Self { directory, user })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.directory.join(program));
        command.current_dir("/");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }
}

/// The user and group that the installed package made.
fn postgres_user() -> Option<(u32, u32)> {
    let users = std::fs::read_to_string(Path::new("/etc/passwd")).ok()?;
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
