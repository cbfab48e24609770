//! A private Redis server.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{Guardian, Server, find_program, free_port, fresh_namespace, missing, wait_until};

/// A Redis (or Valkey) server of one test, or of all tests of one binary, see [`shared_url`]. Every accepted write is on
/// its disk (`appendfsync always`).
#[derive(Debug)]
pub(crate) struct RedisServer {
    program: PathBuf,
    directory: TempDir,
    port: u16,
    /// `None` while it is stopped.
    server: Option<Server>,
    tls: Option<Tls>,
    /// The port of the cluster bus, if this is a node of a cluster.
    cluster: Option<u16>,
    _guardian: Guardian,
}

/// A second port of a server, over TLS. Its certificate is for 127.0.0.1, and signed by an authority of its own: both are
/// files in the directory of the server.
#[derive(Debug)]
struct Tls {
    port: u16,
}

impl Tls {
    /// The certificate of the authority.
    const AUTHORITY: &str = "authority.pem";

    /// `None`, with a note, if nothing here makes certificates.
    fn new(directory: &Path) -> Option<Self> {
        let Some(openssl) = find_program("openssl", &[]) else {
            missing("redis", "`openssl`, which makes certificates, is not installed here");
            return None;
        };
        let make = |name: &str, options: &[&str]| {
            // Each authority has a name of its own, so that an untrusted one has not even a known name.
            let subject = format!("/CN={name} {}", fresh_namespace());
            let mut command = Command::new(&openssl);
            command.current_dir(directory).args(["req", "-x509", "-nodes", "-days", "2", "-subj", &subject]);
            command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]).args(options);
            command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
            let made = command.output().expect("openssl starts");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        };
        make("authority", &[]);
        let name =
            ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
        let signed = ["-CA", Self::AUTHORITY, "-CAkey", "authority.key"];
        make("server", &[name, signed].concat());
        Some(Self { port: free_port() })
    }

    fn configure(&self, command: &mut Command, directory: &Path) {
        command.args(["--tls-port", &self.port.to_string(), "--tls-auth-clients", "no"]);
        command.arg("--tls-cert-file").arg(directory.join("server.pem"));
        command.arg("--tls-key-file").arg(directory.join("server.key"));
        command.arg("--tls-ca-cert-file").arg(directory.join(Self::AUTHORITY));
    }
}

/// The URL of an empty store for the tests of this binary, which share one server: each takes a namespace of its own.
/// `None`, with a note, if there is no Redis.
pub(crate) fn shared_url() -> Option<String> {
    unmade_url().map(super::made)
}

/// The same where nobody has made a store yet.
pub(crate) fn unmade_url() -> Option<String> {
    static SHARED: OnceLock<Option<RedisServer>> = OnceLock::new();
    let base = match std::env::var("TASKFLOW_TEST_REDIS_URL") {
        Ok(url) => url,
        Err(_) => SHARED.get_or_init(RedisServer::start).as_ref()?.url(),
    };
    let separator = if base.contains('?') { '&' } else { '?' };
    Some(format!("{base}{separator}namespace={}", fresh_namespace()))
}

/// What a server answers to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Text(String),
    Error(String),
    Number(i64),
    Bytes(Vec<u8>),
    Nothing,
    List(Vec<Self>),
}

impl Reply {
    fn read(from: &mut impl BufRead) -> Option<Self> {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        let (kind, rest) = line.trim_end().split_at_checked(1)?;
        let length = || usize::try_from(rest.parse::<i64>().ok()?).ok();
        Some(match kind {
            "+" => Self::Text(rest.to_owned()),
            "-" => Self::Error(rest.to_owned()),
            ":" => Self::Number(rest.parse().ok()?),
            "$" => match length() {
                Some(length) => {
                    let mut bytes = vec![0; length + 2];
                    from.read_exact(&mut bytes).ok()?;
                    bytes.truncate(length);
                    Self::Bytes(bytes)
                }
                None => Self::Nothing,
            },
            _ => Self::List((0..length()?).map(|_| Self::read(from)).collect::<Option<_>>()?),
        })
    }

    /// The bytes of this reply. Panics if it is not [`Reply::Bytes`].
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            other => panic!("{other:?} is not bytes"),
        }
    }
}

impl RedisServer {
    /// A new, empty server. `None`, with a note, if there is no Redis.
    pub(crate) fn start() -> Option<Self> {
        let mut server = Self::stopped()?;
        server.restart();
        Some(server)
    }

    /// A new, empty server that can be reached over TLS, too.
    pub(crate) fn start_with_tls() -> Option<Self> {
        let mut server = Self::stopped()?;
        server.tls = Some(Tls::new(server.directory.path())?);
        server.restart();
        Some(server)
    }

    /// The only node of a cluster, which serves all slots.
    pub(crate) fn start_cluster_node() -> Option<Self> {
        let mut server = Self::stopped()?;
        server.cluster = Some(free_port());
        server.restart();
        server.serve_slots(true);
        Some(server)
    }

    /// Gives all slots to this node of a cluster, or takes them away from it: then the cluster is down.
    pub(crate) fn serve_slots(&self, serves: bool) {
        let change: &[u8] = if serves { b"ADDSLOTSRANGE" } else { b"DELSLOTSRANGE" };
        let changed = self.command(&[b"CLUSTER", change, b"0", b"16383"]);
        assert_eq!(changed, Some(Reply::Text("OK".to_owned())));
        let state = if serves { "cluster_state:ok" } else { "cluster_state:fail" };
        wait_until("the cluster to notice", || {
            let info = self.command(&[b"CLUSTER", b"INFO"]).map(Reply::into_bytes).unwrap_or_default();
            String::from_utf8_lossy(&info).contains(state)
        });
    }

    /// A server that has not been started.
    fn stopped() -> Option<Self> {
        let programs = ["redis-server", "valkey-server"];
        let Some(program) = programs.into_iter().find_map(|name| find_program(name, &[])) else {
            missing("redis", "neither `redis-server` nor `valkey-server` is installed here");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("taskflow-redis-").tempdir().expect("a directory");
        let guardian = Guardian::over(directory.path(), &directory.path().join("pid"), "KILL");
        Some(Self {
            program,
            directory,
            port: free_port(),
            server: None,
            tls: None,
            cluster: None,
            _guardian: guardian,
        })
    }

    /// `redis://127.0.0.1:PORT/0`.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `rediss://127.0.0.1:PORT/0` of a server with TLS.
    pub(crate) fn tls_url(&self) -> String {
        let tls = self.tls.as_ref().expect("it was started with TLS");
        format!("rediss://127.0.0.1:{}/0", tls.port)
    }

    /// The certificate of the authority that signed the certificate of a server with TLS.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.path().join(Tls::AUTHORITY)
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port.
    pub(crate) fn restart(&mut self) {
        wait_until("Redis to accept connections", || {
            if !self.server.as_mut().is_some_and(Server::is_running) {
                self.server = Some(self.spawn());
            }
            self.ask(&["PING"]).is_some_and(|answer| answer.starts_with("+PONG"))
        });
    }

    /// An orderly shutdown.
    pub(crate) fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// As by `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Makes it stand still without ending it, or lets it go on. Meanwhile its connections stay open, without answers.
    pub(crate) fn freeze(&self, freeze: bool) {
        if let Some(server) = &self.server {
            server.signal(if freeze { Signal::STOP } else { Signal::CONT });
        }
    }

    /// Sends one command over a connection of its own. Returns the first 64 bytes of the answer at most.
    pub(crate) fn ask(&self, words: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(command.as_bytes()).ok()?;
        let mut answer = [0; 64];
        let length = stream.read(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer[..length]).into_owned())
    }

    /// Sends one command, of any bytes, over a connection of its own; `None` while the server does not answer.
    pub(crate) fn command(&self, words: &[&[u8]]) -> Option<Reply> {
        self.commands(&[words]).pop()?
    }

    /// Like [`command`](Self::command), on a server that asks for a password.
    pub(crate) fn command_as(&self, password: &str, words: &[&[u8]]) -> Option<Reply> {
        self.commands(&[&[b"AUTH", password.as_bytes()], words]).pop()?
    }

    fn commands(&self, commands: &[&[&[u8]]]) -> Vec<Option<Reply>> {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return Vec::new() };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut bytes = Vec::new();
        for words in commands {
            bytes.extend(format!("*{}\r\n", words.len()).into_bytes());
            for word in *words {
                bytes.extend(format!("${}\r\n", word.len()).into_bytes());
                bytes.extend_from_slice(word);
                bytes.extend(b"\r\n");
            }
        }
        let _ = stream.write_all(&bytes);
        let mut answers = BufReader::new(stream);
        commands.iter().map(|_| Reply::read(&mut answers)).collect()
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut server) = self.server.take() {
            server.end(signal);
        }
    }

    fn spawn(&self) -> Server {
        let directory = self.directory.path();
        let log = File::options().create(true).append(true).open(directory.join("log")).expect("a log file");
        let mut command = Command::new(&self.program);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--daemonize", "no"]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
        command.arg("--dir").arg(directory).arg("--pidfile").arg(directory.join("pid"));
        if let Some(port) = self.cluster {
            command.args(["--cluster-enabled", "yes", "--cluster-port", &port.to_string()]);
        }
        if let Some(tls) = &self.tls {
            tls.configure(&mut command, directory);
        }
        Server::start(command.stdout(log.try_clone().expect("a log file")).stderr(log))
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.end(Signal::KILL);
    }
}
