//! The file of a SQLite store and what is around it: a full disk, a long log, a mount point, a read-only place, a file
//! that is gone.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/servers/mod.rs"]
#[allow(unused, reason = "only its notes about missing programs are used")]
mod servers;
mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use support::{DEADLINE, eventually, soon};
use taskflow::store::{DocumentQuery, DocumentWrite, InsertBatch, InsertGroup, InsertTask, Start};
use taskflow::{
    AddError, InstanceInfo, NewTask, QueueConfig, SqliteStore, Store, TaskManager, TaskStatus,
    model::StoreErrorKind,
};

#[taskflow::task(name = "file.keep")]
async fn keep(text: String) {
    drop(text);
}

/// A file system that is mounted until the end of the test.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// `None`, with a note, if this process may not mount.
    fn new(options: &[&str], source: &Path, at: impl FnOnce(&Path) -> PathBuf) -> Option<(Self, PathBuf)> {
        let directory = tempfile::tempdir().unwrap();
        let at = at(directory.path());
        let mount = Command::new("mount").args(options).args([source, &at]).output();
        match mount {
            Ok(output) if output.status.success() => Some((Self(directory), at)),
            answer => {
                servers::missing("mount", &format!("this process may not mount: {answer:?}"));
                None
            }
        }
    }

    /// A disk of this size, for example `10m`.
    fn disk(size: &str) -> Option<(Self, PathBuf)> {
        let size = format!("size={size}");
        Self::new(&["-t", "tmpfs", "-o", &size], Path::new("tmpfs"), Path::to_owned)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let within = self.0.path().to_str().unwrap().to_owned();
        for at in
            mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|at| at.starts_with(&within))
        {
            let at = at.replace("\\040", " ");
            let _ = Command::new("umount").arg("-l").arg(at).status();
        }
    }
}

fn url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

fn log_of(file: &Path) -> u64 {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    fs::metadata(log).map_or(0, |log| log.len())
}

async fn connect(file: &Path) -> TaskManager {
    // Connecting makes no store.
    if !file.exists() {
        drop(SqliteStore::open(file).unwrap());
    }
    let builder = TaskManager::builder().store(url(file)).add_timeout(Duration::from_millis(200));
    soon(builder.connect()).await.unwrap()
}

async fn add(tasks: &TaskManager, bytes: usize) -> Result<taskflow::TaskId, AddError> {
    Ok(soon(tasks.add_task(keep, ("x".repeat(bytes),))).await?.id())
}

/// Adds tasks of 100 kB until an add fails.
async fn add_until_full(tasks: &TaskManager, added: &mut Vec<taskflow::TaskId>) -> AddError {
    loop {
        match add(tasks, 100_000).await {
            Ok(id) => added.push(id),
            Err(error) => return error,
        }
        assert!(added.len() < 1_000, "the disk is full after 10 MiB");
    }
}

#[tokio::test]
async fn what_is_freed_on_a_full_disk_is_not_used_up_by_the_log() {
    let Some((_disk, at)) = Mounted::disk("10m") else { return };
    let file = at.join("tasks.db");
    let pieces: Vec<_> = (0..6).map(|number| at.join(format!("piece-{number}"))).collect();
    for piece in &pieces {
        fs::write(piece, vec![0; 1 << 20]).unwrap();
    }
    let builder = TaskManager::builder().store(url(&file)).add_timeout(Duration::from_millis(200));
    let tasks = soon(builder.only(["file.keep"]).start()).await.unwrap();
    soon(tasks.pause_queue("default")).await.unwrap();
    let mut added = Vec::new();
    let error = add_until_full(&tasks, &mut added).await;
    let AddError::Store(error) = &error else { panic!("{error}") };
    assert_eq!(error.kind(), StoreErrorKind::Full);
    assert!(error.to_string().contains("no room"), "{error}");
    // Room appears in small steps, while others go on writing.
    for piece in &pieces[1..] {
        fs::remove_file(piece).unwrap();
        for number in 1..60 {
            let _ = soon(tasks.set_queue("default", QueueConfig::new().concurrency(number))).await;
        }
    }
    eventually("a task is added", || async { add(&tasks, 10).await.ok() }).await;
    // Full again: the log has no more than fits into the last piece.
    add_until_full(&tasks, &mut added).await;
    fs::remove_file(&pieces[0]).unwrap();
    eventually("the queue is resumed", || async { tasks.resume_queue("default").await.ok() }).await;
    for id in &added {
        support::reaches(&tasks, *id, TaskStatus::Success).await;
    }
    soon(tasks.shutdown(Duration::from_secs(5))).await.unwrap();
}

#[tokio::test]
async fn hundreds_of_lost_runs_with_long_arguments_are_recovered_on_a_nearly_full_disk() {
    const RUNS: usize = 200;
    let Some((_disk, at)) = Mounted::disk("24m") else { return };
    let store = SqliteStore::open(at.join("tasks.db")).unwrap();
    let [dead, me] = [(); 2].map(|()| InstanceInfo::of_this_process(true));
    soon(store.join(&me)).await.unwrap();
    let args: Arc<str> = Arc::from(format!(r#"{{"text":"{}"}}"#, "x".repeat(60_000)));
    let groups = (0..RUNS).map(|_| {
        let mut new = NewTask::new("file.keep", Ok(args.clone()));
        new.policy.to_mut().retries = 3;
        InsertGroup::new(vec![InsertTask::new(new, Start::Lease)])
    });
    let batch = InsertBatch::new(dead.id, Duration::from_millis(50), groups.collect());
    soon(store.insert(Arc::new(batch))).await.unwrap();
    // Closing the store moves the log into its file.
    drop(store);
    let store = SqliteStore::open(at.join("tasks.db")).unwrap();
    soon(store.join(&me)).await.unwrap();
    // Leaves room for a few of the runs.
    let mut ballast = fs::File::create(at.join("ballast")).unwrap();
    while ballast.write_all(&[0; 64 << 10]).is_ok() {}
    let length = ballast.metadata().unwrap().len();
    ballast.set_len(length.saturating_sub(2 << 20)).unwrap();
    let (mut recovered, since) = (0, Instant::now());
    while recovered < RUNS {
        recovered += soon(store.recover(me.id)).await.map_or(0, |tasks| tasks.len());
        assert!(since.elapsed() < DEADLINE, "{recovered} of {RUNS} were recovered");
    }
    let counts = soon(store.counts()).await.unwrap();
    assert_eq!((counts.pending, counts.running), (200, 0));
}

#[tokio::test]
async fn whoever_only_looks_does_so_on_a_full_disk() {
    let Some((_disk, at)) = Mounted::disk("4m") else { return };
    let file = at.join("tasks.db");
    let first = connect(&file).await;
    let id = add(&first, 10).await.unwrap();
    // Fills the rest of the disk.
    let ballast = at.join("ballast");
    let _ = fs::write(&ballast, vec![0; 8 << 20]);
    for bytes in [100_000, 10] {
        for _ in 0..2_000 {
            if add(&first, bytes).await.is_err() {
                break;
            }
        }
    }
    let looks = connect(&file).await;
    assert_eq!(soon(looks.get(id)).await.unwrap().unwrap().id, id);
    let health = looks.health();
    assert!(!health.is_healthy(), "{health:?}");
    assert!(add(&looks, 10).await.is_err());
    soon(looks.shutdown(Duration::ZERO)).await.unwrap();
    soon(first.shutdown(Duration::ZERO)).await.unwrap();

    // The same when nobody else has the file open.
    let looks = connect(&file).await;
    assert_eq!(soon(looks.get(id)).await.unwrap().unwrap().id, id);
    soon(looks.shutdown(Duration::ZERO)).await.unwrap();
}

#[tokio::test]
async fn whoever_only_looks_does_so_on_a_read_only_file_system() {
    let Some((_disk, at)) = Mounted::disk("8m") else { return };
    let file = at.join("tasks.db");
    let first = connect(&file).await;
    let id = add(&first, 10).await.unwrap();
    let document = DocumentWrite::put("notes", "a", vec![1]);
    let store = SqliteStore::open(&file).unwrap();
    soon(store.write_documents(vec![document.clone()])).await.unwrap();
    drop(store);
    soon(first.shutdown(Duration::ZERO)).await.unwrap();
    drop(first);
    eventually("the file is closed", || async { (log_of(&file) == 0).then_some(()) }).await;
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&at).status().unwrap();
    assert!(remounted.success());

    let looks = connect(&file).await;
    assert_eq!(soon(looks.get(id)).await.unwrap().unwrap().status, TaskStatus::Pending);
    assert_eq!(soon(looks.counts()).await.unwrap().pending, 1);
    let health = looks.health();
    assert!(health.reason.is_some_and(|reason| reason.contains("written to")));
    let error = soon(looks.cancel(id)).await.unwrap_err();
    assert!(error.to_string().contains("cannot be written to"), "{error}");
    assert!(add(&looks, 10).await.is_err());
    soon(looks.shutdown(Duration::ZERO)).await.unwrap();
    let store = SqliteStore::open(&file).unwrap();
    assert_eq!(soon(store.documents(DocumentQuery::one("notes", "a"))).await.unwrap().len(), 1);
    let error = soon(store.write_documents(vec![document])).await.unwrap_err();
    assert!(error.to_string().contains("cannot be written to"), "{error}");
    drop(store);
    let error = soon(TaskManager::builder().store(url(&file)).only(["file.keep"]).start()).await.unwrap_err();
    assert!(error.to_string().contains("written to"), "who runs tasks must write: {error}");
    // A process that may not write makes no store.
    let error = soon(TaskManager::builder().store(url(&at.join("none.db"))).connect()).await.unwrap_err();
    assert!(error.to_string().contains("none.db"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_itself_a_mount_point_is_refused_with_the_directory_to_mount() {
    let home = tempfile::tempdir().unwrap();
    let real = home.path().join("tasks.db");
    soon(connect(&real).await.shutdown(Duration::ZERO)).await.unwrap();
    let Some((_mounted, at)) = Mounted::new(&["--bind"], &real, |directory| {
        let at = directory.join("our tasks.db");
        fs::write(&at, "").unwrap();
        at
    }) else {
        return;
    };
    for error in [
        soon(TaskManager::builder().store(url(&at)).connect()).await.unwrap_err(),
        soon(TaskManager::builder().store(url(&at)).only(["file.keep"]).start()).await.unwrap_err(),
    ] {
        let text = error.to_string();
        let directory = format!("mount its directory `{}`", at.parent().unwrap().display());
        assert!(text.contains("mount point") && text.contains(&directory), "{text}");
    }
    // The directory of the file may be a mount point.
    let Some((_mounted, at)) = Mounted::new(&["--bind"], home.path(), Path::to_owned) else { return };
    soon(connect(&at.join("tasks.db")).await.shutdown(Duration::ZERO)).await.unwrap();
}

#[tokio::test]
async fn the_log_of_an_idle_store_is_short_again_after_a_long_reader_has_gone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tasks.db");
    let tasks = connect(&file).await;
    let reader = Connection::open(&file).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let _: i64 = reader.query_row("SELECT count(*) FROM taskflow_tasks", [], |row| row.get(0)).unwrap();
    for _ in 0..40 {
        add(&tasks, 500_000).await.unwrap();
    }
    assert!(log_of(&file) > 15 << 20, "the reader holds it: {}", log_of(&file));
    reader.execute_batch("COMMIT").unwrap();
    eventually("the log is cut", || async { (log_of(&file) < 1 << 20).then_some(()) }).await;

    // The log is also cut at the end of the manager, though another connection keeps the file open.
    reader.execute_batch("BEGIN").unwrap();
    let _: i64 = reader.query_row("SELECT count(*) FROM taskflow_tasks", [], |row| row.get(0)).unwrap();
    for _ in 0..10 {
        add(&tasks, 500_000).await.unwrap();
    }
    reader.execute_batch("COMMIT").unwrap();
    soon(tasks.shutdown(Duration::from_secs(5))).await.unwrap();
    drop(tasks);
    eventually("the log is cut at the end", || async { (log_of(&file) == 0).then_some(()) }).await;
    drop(reader);
}

#[tokio::test]
async fn an_add_within_a_transaction_that_saw_an_older_state_says_how_to_begin_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tasks.db");
    let tasks = connect(&file).await;
    let own = Connection::open(&file).unwrap();
    own.execute_batch("BEGIN").unwrap();
    let _: i64 = own.query_row("SELECT count(*) FROM taskflow_tasks", [], |row| row.get(0)).unwrap();
    add(&tasks, 10).await.unwrap();
    let error = tasks.add_task(keep, (String::new(),)).within_sqlite(&own).unwrap_err();
    assert!(error.to_string().contains("`BEGIN IMMEDIATE`"), "{error}");
    assert!(!error.to_string().contains("stayed locked"), "{error}");
    own.execute_batch("ROLLBACK; BEGIN IMMEDIATE").unwrap();
    tasks.add_task(keep, (String::new(),)).within_sqlite(&own).unwrap();
    own.execute_batch("COMMIT").unwrap();
    assert_eq!(soon(tasks.counts()).await.unwrap().pending, 2);
}

#[tokio::test]
async fn a_file_that_is_deleted_or_replaced_is_named_with_the_remedy() {
    for replaced in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tasks.db");
        let tasks = connect(&file).await;
        add(&tasks, 10).await.unwrap();
        fs::remove_file(&file).unwrap();
        if replaced {
            Connection::open(&file).unwrap().execute_batch("CREATE TABLE other (x)").unwrap();
        }
        let error = add(&tasks, 10).await.unwrap_err();
        assert!(error.to_string().contains("moved, deleted or replaced"), "{error}");
        assert!(tasks.health().reason.is_some_and(|reason| reason.contains("put it back")));
    }
}
