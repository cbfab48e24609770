//! A private PgBouncer, in transaction mode.

use std::fs::File;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::postgres::PostgresServer;
use super::{Guardian, Server, find_program, free_port, missing, wait_until};

/// A pooler before a server: each transaction is given one of two sessions.
#[derive(Debug)]
pub(crate) struct Pooler {
    port: u16,
    _server: Server,
    _guardian: Guardian,
    _directory: TempDir,
}

impl Pooler {
    /// `None`, with a note, if there is no PgBouncer.
    pub(crate) fn start(server: &PostgresServer) -> Option<Self> {
        let Some(program) = find_program("pgbouncer", &["/usr/sbin".into()]) else {
            missing("pgbouncer", "no `pgbouncer` is installed here");
            return None;
        };
        let directory =
            tempfile::Builder::new().prefix("taskflow-pgbouncer-").tempdir().expect("a directory");
        let port = free_port();
        let path = |name: &str| directory.path().join(name);
        // With this type of authentication everybody is the user that the database names.
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 2\npidfile = {}\n",
            server.port(),
            path("pid").display(),
        );
        std::fs::write(path("settings"), settings).expect("a file in the directory");
        let log = File::create(path("log")).expect("a log file");
        let mut command = Command::new(program);
        command.arg("-q").arg(path("settings"));
        if let Some((user, group)) = server.user() {
            for place in [directory.path().to_owned(), path("settings"), path("log")] {
                chown(place, Some(user), Some(group)).expect("root may give a file away");
            }
            command.uid(user).gid(group);
        }
        command.stdout(log.try_clone().expect("a log file")).stderr(log).stdin(Stdio::null());
        let guardian = Guardian::over(directory.path(), &path("pid"), "KILL");
        let pooler =
            Self { port, _server: Server::start(&mut command), _guardian: guardian, _directory: directory };
        wait_until("PgBouncer to accept connections", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(pooler)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}
