//! A store that refuses writes while reads work is degraded until a write succeeds, and the log says so once.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use servers::{postgres::PostgresServer, redis::RedisServer};
use support::eventually;
use taskflow::TaskManager;

/// How long writes are refused. Meanwhile several claims and recoveries find nothing and succeed.
const REFUSED: Duration = Duration::from_secs(3);

#[taskflow::task]
async fn nothing(text: String) {
    drop(text);
}

/// The log of the managers of this process. The tests run one at a time, because they share it.
static LOG: LazyLock<Mutex<Vec<u8>>> = LazyLock::new(|| {
    tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).init();
    Mutex::default()
});
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// How many lines of the log contain that text.
fn lines(part: &str) -> usize {
    let log = LOG.lock().unwrap();
    String::from_utf8_lossy(&log).lines().filter(|line| line.contains(part)).count()
}

/// Between `refuse` and `allow` the store at that URL refuses writes. Meanwhile a manager keeps adding tasks.
async fn is_degraded_while_writes_are_refused(url: &str, refuse: impl FnOnce(), allow: impl FnOnce()) {
    let _alone = ONE_AT_A_TIME.lock().await;
    LOG.lock().unwrap().clear();
    let builder = TaskManager::builder().store(url).add_timeout(Duration::from_millis(300));
    let tasks = builder.lease(Duration::from_secs(60)).start().await.unwrap();
    let adding = {
        let tasks = tasks.clone();
        tokio::spawn(async move {
            loop {
                let _ = tasks.add_task(nothing, ("x".repeat(4096),)).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    };
    eventually("tasks run", || async { (tasks.counts().await.unwrap().success > 5).then_some(()) }).await;
    assert!(tasks.health().is_healthy());

    refuse();
    let since = eventually("it is degraded", || async { tasks.health().degraded_since }).await;
    let (began, mut reads) = (Instant::now(), 0);
    while began.elapsed() < REFUSED {
        assert_eq!(tasks.health().degraded_since, Some(since), "after {:?}", began.elapsed());
        reads += usize::from(tasks.counts().await.is_ok());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(reads > 0, "no read was answered");
    assert!(tasks.health().reason.is_some());
    assert_eq!((lines("is degraded"), lines("takes writes again")), (1, 0));

    allow();
    eventually("it is well again", || async { tasks.health().is_healthy().then_some(()) }).await;
    eventually("it says so", || async { (lines("takes writes again") > 0).then_some(()) }).await;
    assert_eq!((lines("is degraded"), lines("takes writes again")), (1, 1));
    adding.abort();
    tasks.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_out_of_memory_is_degraded_until_a_write_succeeds() {
    let Some(server) = RedisServer::start() else { return };
    let limit = |bytes: &str| drop(server.ask(&["CONFIG", "SET", "maxmemory", bytes]).unwrap());
    is_degraded_while_writes_are_refused(&server.url(), || limit("1"), || limit("0")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_as_a_replica_is_degraded_until_a_write_succeeds() {
    let Some(server) = RedisServer::start() else { return };
    let nobody = servers::free_port().to_string();
    let follow = |host: &str, port: &str| drop(server.ask(&["REPLICAOF", host, port]).unwrap());
    is_degraded_while_writes_are_refused(
        &server.url(),
        || follow("127.0.0.1", &nobody),
        || follow("NO", "ONE"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_that_only_reads_is_degraded_until_a_write_succeeds() {
    let Some(server) = PostgresServer::start() else { return };
    let only_read = |on: &str| {
        server.query(&format!("ALTER SYSTEM SET default_transaction_read_only = {on}"));
        server.query("SELECT pg_reload_conf()");
    };
    is_degraded_while_writes_are_refused(&server.url(), || only_read("on"), || only_read("off")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_that_was_moved_away_is_degraded_until_a_write_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let (file, away) = (directory.path().join("tasks.db"), directory.path().join("away"));
    let url = format!("sqlite://{}", file.display());
    let rename = |from: &Path, to: &Path| std::fs::rename(from, to).unwrap();
    is_degraded_while_writes_are_refused(&url, || rename(&file, &away), || rename(&away, &file)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_on_a_full_disk_is_degraded_until_a_write_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=160m", "tmpfs"]).arg(directory.path());
    if !mount.output().is_ok_and(|output| output.status.success()) {
        return servers::missing("mount", "this user may not mount a small disk");
    }
    let url = format!("sqlite://{}", directory.path().join("tasks.db").display());
    let ballast = directory.path().join("ballast");
    let fill = || {
        let mut file = std::fs::File::create(&ballast).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    };
    is_degraded_while_writes_are_refused(&url, fill, || std::fs::remove_file(&ballast).unwrap()).await;
    let _ = Command::new("umount").arg("--lazy").arg(directory.path()).status();
}
