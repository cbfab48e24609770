//! Behaviour that only a store in a file has.

mod limits;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tempfile::TempDir;

use super::{SqliteStore, Synchronous};
use crate::model::{
    Error, InstanceId, InstanceInfo, NewTask, RetryPolicy, StoreErrorKind, TaskFilter, TaskId, TaskStatus,
};
use crate::store::{Claim, Finish, FinishKind, InsertBatch, InsertGroup, InsertTask, Start, Store};

const LONG: Duration = Duration::from_secs(3600);

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tasks.db");
    (directory, path)
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open_with(path, Synchronous::Normal).unwrap()
}

fn task(name: &'static str) -> NewTask {
    let mut task = NewTask::new(name, Ok(Arc::from("{}")));
    task.policy = std::borrow::Cow::Owned(RetryPolicy { requeue_on_interrupt: true, ..RetryPolicy::DEFAULT });
    task
}

fn batch(by: InstanceId, start: Start, tasks: Vec<NewTask>) -> Arc<InsertBatch> {
    let groups = tasks.into_iter().map(|task| InsertGroup::new(vec![InsertTask::new(task, start)])).collect();
    Arc::new(InsertBatch::new(by, LONG, groups))
}

fn claim(by: InstanceId, limit: usize) -> Claim {
    Claim::new(by, LONG, Arc::from([Arc::from("a")]), vec![(Arc::from("default"), limit)], limit)
}

async fn joined(store: &SqliteStore) -> InstanceId {
    let info = InstanceInfo::of_this_process(true);
    store.join(&info).await.unwrap();
    info.id
}

fn refusal(path: &Path) -> (StoreErrorKind, String) {
    match SqliteStore::open(path) {
        Err(Error::Store(error)) => (error.kind(), error.to_string()),
        other => panic!("{other:?} instead of a refusal of {}", path.display()),
    }
}

#[test]
fn a_file_that_is_not_a_store_is_refused_and_left_unchanged() {
    let (directory, path) = place();

    fs::write(&path, "dear diary, this is not a database").unwrap();
    let (kind, message) = refusal(&path);
    assert_eq!(kind, StoreErrorKind::NotAStore);
    assert!(message.contains("tasks.db") && message.contains("a file of its own"), "{message}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "dear diary, this is not a database");

    let (kind, message) = refusal(directory.path());
    assert_eq!(kind, StoreErrorKind::NotAStore);
    assert!(message.contains("is a directory"), "{message}");

    let (kind, message) = refusal(&directory.path().join("nowhere/tasks.db"));
    assert_eq!(kind, StoreErrorKind::Denied);
    assert!(message.contains("no directory") && message.contains("nowhere"), "{message}");

    assert_eq!(refusal(Path::new("")).0, StoreErrorKind::NotAStore);
    assert!(refusal(Path::new(":memory:")).1.contains("`memory:`"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing was left beside it");
}

#[test]
fn a_header_without_a_database_is_refused() {
    let (_directory, path) = place();
    let mut bytes = b"SQLite format 3\0".to_vec();
    bytes.extend([0xab; 4080]);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(refusal(&path).0, StoreErrorKind::NotAStore);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_newer_store_is_refused_with_the_remedy() {
    let (_directory, path) = place();
    drop(open(&path));
    let own = rusqlite::Connection::open(&path).unwrap();
    own.execute("INSERT INTO taskflow_migrations VALUES (99, 0, NULL)", []).unwrap();
    drop(own);
    let (kind, message) = refusal(&path);
    assert_eq!(kind, StoreErrorKind::NewerSchema);
    assert!(message.contains("99") && message.contains("update this program"), "{message}");
}

#[test]
fn a_foreign_table_with_our_name_is_not_touched() {
    let (_directory, path) = place();
    let own = rusqlite::Connection::open(&path).unwrap();
    own.execute_batch("CREATE TABLE taskflow_tasks (mine TEXT)").unwrap();
    assert_eq!(refusal(&path).0, StoreErrorKind::NotAStore);
    let tables: i64 = own.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    let mode: String = own.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!((tables, mode.as_str()), (1, "delete"));
}

#[test]
fn an_applications_own_file_keeps_the_applications_data() {
    let (_directory, path) = place();
    let own = rusqlite::Connection::open(&path).unwrap();
    own.execute_batch(
        "PRAGMA user_version = 42; CREATE TABLE users (name TEXT); INSERT INTO users VALUES ('eve')",
    )
    .unwrap();
    drop(own);
    drop(open(&path));
    let own = rusqlite::Connection::open(&path).unwrap();
    let version: i64 = own.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    let user: String = own.query_row("SELECT name FROM users", [], |row| row.get(0)).unwrap();
    assert_eq!((version, user.as_str()), (42, "eve"));
}

#[tokio::test]
async fn stored_tasks_are_there_when_the_file_is_opened_again_and_nothing_else_is_left() {
    let (directory, path) = place();
    let store = open(&path);
    let me = joined(&store).await;
    let added = task("a");
    let id = added.id;
    store.insert(batch(me, Start::Wait, vec![added])).await.unwrap();
    store.leave(me).await.unwrap();
    drop(store);
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["tasks.db"], "the log is in the file, the locks are gone");

    let store = open(&path);
    assert_eq!(store.get(id).await.unwrap().map(|task| task.status), Some(TaskStatus::Pending));
}

#[tokio::test]
async fn the_runs_of_a_dead_process_are_moved_on_at_once_and_those_of_a_living_one_never() {
    let (_directory, path) = place();
    let (doomed, neighbour) = (open(&path), open(&path));
    let (dead, alive) = (joined(&doomed).await, joined(&neighbour).await);
    let (running, held) = (task("a"), task("a"));
    let ids = HashSet::from([running.id, held.id]);
    doomed.insert(batch(dead, Start::Lease, vec![running])).await.unwrap();
    doomed.insert(batch(dead, Start::Hold, vec![held])).await.unwrap();

    assert!(neighbour.recover(alive).await.unwrap().is_empty(), "it lives");
    assert_eq!(neighbour.instances().await.unwrap().len(), 2);

    // The system closes its files and does nothing else, as when the process is killed.
    drop(doomed);
    assert_eq!(neighbour.instances().await.unwrap().len(), 1);
    let recovered: HashSet<TaskId> =
        neighbour.recover(alive).await.unwrap().into_iter().map(|it| it.id).collect();
    assert_eq!(recovered, ids, "long before the lease ends");
    assert!(neighbour.recover(alive).await.unwrap().is_empty());
    assert_eq!(neighbour.claim(claim(alive, 9)).await.unwrap().tasks.len(), 2);
}

#[tokio::test]
async fn a_process_that_lost_its_lock_file_is_not_considered_dead() {
    let (directory, path) = place();
    let (store, neighbour) = (open(&path), open(&path));
    let (me, other) = (joined(&store).await, joined(&neighbour).await);
    store.insert(batch(me, Start::Lease, vec![task("a")])).await.unwrap();
    fs::remove_dir_all(directory.path().join("tasks.db-taskflow")).unwrap();
    assert!(neighbour.recover(other).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_writers_of_one_file_wait_for_each_other_and_share_the_work() {
    const EACH: usize = 2500;
    let (_directory, path) = place();
    let mut workers = Vec::new();
    for _ in 0..2 {
        // Separate handles, as two processes have.
        let store = open(&path);
        let me = joined(&store).await;
        workers.push(tokio::spawn(async move {
            for _ in 0..EACH / 50 {
                let tasks = (0..50).map(|_| task("a")).collect();
                store.insert(batch(me, Start::Wait, tasks)).await.expect("an insert");
            }
            let mut done = Vec::new();
            loop {
                let claimed = store.claim(claim(me, 32)).await.expect("a claim").tasks;
                if claimed.is_empty() {
                    return done;
                }
                let ends = claimed
                    .iter()
                    .map(|it| Finish::new(it.run, FinishKind::Success { result: "null".into() }));
                store.finish(Arc::new(ends.collect())).await.expect("a finish");
                done.extend(claimed.iter().map(|it| it.run.id));
            }
        }));
    }
    let mut done = Vec::new();
    for worker in workers {
        done.extend(worker.await.unwrap());
    }
    // One writer may have ended before the other had added everything.
    let store = open(&path);
    let me = joined(&store).await;
    done.extend(store.claim(claim(me, 2 * EACH)).await.unwrap().tasks.iter().map(|it| it.run.id));
    assert_eq!(done.len(), 2 * EACH);
    assert_eq!(done.iter().collect::<HashSet<_>>().len(), 2 * EACH, "none twice");
    assert_eq!(store.counts().await.unwrap().total(), 2 * EACH as u64);
}

#[tokio::test]
async fn another_handles_writes_are_heard() {
    let (_directory, path) = place();
    let (store, neighbour) = (open(&path), open(&path));
    let me = joined(&store).await;
    let mut hints = neighbour.listen();
    store.insert(batch(me, Start::Wait, vec![task("a")])).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), hints.next()).await.expect("a hint");
}

#[tokio::test]
async fn a_job_that_fails_or_panics_hurts_no_other() {
    let (_directory, path) = place();
    let store = open(&path);
    let me = joined(&store).await;
    // Keeps the writer busy, so that the jobs after it come in one group.
    let busy = store.write(|_| {
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    });
    let fails = store.write(|tx| tx.sql.connection().execute("INSERT INTO nowhere VALUES (1)", []).map(drop));
    let good = store.insert(batch(me, Start::Wait, vec![task("a")]));
    let later = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        tokio::join!(fails, good)
    };
    let (_, (failed, inserted)) = tokio::join!(busy, later);
    assert_eq!(failed.unwrap_err().kind(), StoreErrorKind::Other);
    inserted.unwrap();
    assert_eq!(store.counts().await.unwrap().pending, 1);

    let panicked = store.write(|tx| -> rusqlite::Result<()> {
        tx.sql.connection().execute("DELETE FROM taskflow_tasks", [])?;
        panic!("for the test")
    });
    assert_eq!(panicked.await.unwrap_err().kind(), StoreErrorKind::Unknown);
    assert_eq!(store.list(TaskFilter::new()).await.unwrap().items.len(), 1, "it was undone");
    store.insert(batch(me, Start::Wait, vec![task("a")])).await.unwrap();
    assert_eq!(store.counts().await.unwrap().pending, 2);
}

#[tokio::test]
async fn a_write_that_nobody_waits_for_is_still_done() {
    let (_directory, path) = place();
    let store = open(&path);
    let me = joined(&store).await;
    let added = task("a");
    let id = added.id;
    let mut insert = store.insert(batch(me, Start::Wait, vec![added]));
    let asked = insert.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(asked, Poll::Pending | Poll::Ready(Ok(_))));
    drop(insert);
    let deadline = Instant::now() + Duration::from_secs(10);
    while store.get(id).await.unwrap().is_none() {
        assert!(Instant::now() < deadline, "it was not written");
    }
}

#[tokio::test]
async fn the_log_does_not_grow_with_what_is_written() {
    let (_directory, path) = place();
    let store = open(&path);
    let me = joined(&store).await;
    let args: Arc<str> = Arc::from(format!("{{\"text\":\"{}\"}}", "x".repeat(8000)));
    for _ in 0..300 {
        let tasks = (0..50).map(|_| NewTask { args: Ok(Arc::clone(&args)), ..task("a") }).collect();
        store.insert(batch(me, Start::Wait, tasks)).await.unwrap();
    }
    let log = fs::metadata(path.with_extension("db-wal")).unwrap().len();
    let file = fs::metadata(&path).unwrap().len();
    assert!(log < 70 << 20 && file > 60 << 20, "a log of {log} bytes beside a file of {file}");
}

#[tokio::test]
async fn a_page_of_unsuccessful_tasks_is_found_among_many_successes() {
    let (_directory, path) = place();
    let store = open(&path);
    let me = joined(&store).await;
    let tasks: Vec<NewTask> = (0..300).map(|_| task("a")).collect();
    let bad = tasks[17].id;
    store.insert(batch(me, Start::Lease, tasks)).await.unwrap();
    let filter = |status| TaskFilter::new().status(status);
    assert_eq!(store.list(filter(TaskStatus::Running).limit(10)).await.unwrap().items.len(), 10);
    let error = "oops".to_owned();
    let run = crate::store::RunRef::new(bad, 1);
    let end = FinishKind::End {
        status: TaskStatus::Failed,
        outcome: crate::model::AttemptOutcome::TimedOut,
        error,
    };
    store.finish(Arc::new(vec![Finish::new(run, end)])).await.unwrap();
    let page = store.list(filter(TaskStatus::Failed).status(TaskStatus::Cancelled)).await.unwrap();
    assert_eq!(page.items.iter().map(|task| task.id).collect::<Vec<_>>(), [bad]);
    assert!(page.next.is_none());
    assert_eq!(page.items[0].attempts[0].outcome, crate::model::AttemptOutcome::TimedOut);
}
