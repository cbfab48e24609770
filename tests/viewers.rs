//! A server lets a process read but not write: the process becomes a viewer, and reports that.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use servers::postgres::PostgresServer;
use servers::redis::RedisServer;
use support::{eventually, soon};
use taskflow::{
    AddError, Error, TaskFilter, TaskId, TaskManager, TaskStatus,
    model::{StoreError, StoreErrorKind},
};
use wrapper::{Wrapper, go_on};

#[taskflow::task(name = "viewers.keep")]
async fn keep() {}

async fn connect(url: &str) -> Result<TaskManager, Error> {
    soon(TaskManager::builder().store(url).add_timeout(Duration::from_secs(10)).connect()).await
}

/// A store with one waiting task.
async fn filled(url: &str) -> TaskId {
    let tasks = connect(&servers::made(url.to_owned())).await.unwrap();
    let id = soon(tasks.add_task(keep, ())).await.unwrap().id();
    soon(tasks.shutdown(Duration::ZERO)).await.unwrap();
    id
}

/// A process that connects there sees everything and can change nothing, and reports that.
async fn looks(url: &str, id: TaskId) -> TaskManager {
    let looks = connect(url).await.unwrap();
    assert_eq!(soon(looks.get(id)).await.unwrap().unwrap().status, TaskStatus::Pending);
    assert_eq!(soon(looks.list(TaskFilter::all())).await.unwrap().items.len(), 1);
    assert_eq!(soon(looks.counts()).await.unwrap().pending, 1);
    soon(looks.queues()).await.unwrap();
    soon(looks.schedules()).await.unwrap();
    soon(looks.instances()).await.unwrap();
    assert!(soon(looks.cancel(id)).await.is_err());
    let refused = soon(looks.add_task(keep, ())).await.unwrap_err();
    assert!(matches!(refused, AddError::Store(_)), "{refused:?}");
    assert!(soon(looks.pause_queue("default")).await.is_err());
    let health = looks.health();
    assert!(!health.is_healthy() && health.reason.is_some(), "{health:?}");
    assert_eq!(soon(looks.counts()).await.unwrap().pending, 1);
    assert!(!looks.health().is_healthy(), "a read does not end that");
    looks
}

async fn cannot_start(url: &str) {
    let start = TaskManager::builder().store(url).only(["viewers.keep"]).start();
    assert!(soon(start).await.is_err(), "who runs tasks must write");
}

/// Connecting to `url` finds no store and makes none; `migrate` makes one.
async fn is_made_only_by_migrate(url: &str) {
    for _ in 0..2 {
        let error = connect(url).await.unwrap_err();
        let Error::Store(refused) = &error else { panic!("{url}: {error:?}") };
        assert_eq!(refused.kind(), StoreErrorKind::NotAStore, "{url}: {error}");
        let text = error.to_string();
        assert!(text.contains("`.start()`") && text.contains("taskflow migrate"), "{text}");
    }
    for _ in 0..2 {
        soon(TaskManager::builder().store(url).migrate()).await.unwrap();
    }
    let tasks = connect(url).await.unwrap();
    soon(tasks.add_task(keep, ())).await.unwrap();
    assert_eq!(soon(tasks.instances()).await.unwrap().len(), 1, "a migration is no process");
    soon(tasks.shutdown(Duration::ZERO)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_only_connects_makes_no_store() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let url = |name: &str| format!("sqlite://{}", file(name).display());
    assert!(connect(&url("tasks.db")).await.is_err());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "there is no file");
    is_made_only_by_migrate(&url("tasks.db")).await;

    // Files that are there and are no store: an empty one, and that of another program.
    std::fs::write(file("empty.db"), "").unwrap();
    is_made_only_by_migrate(&url("empty.db")).await;
    let other = rusqlite::Connection::open(file("other.db")).unwrap();
    other.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY)").unwrap();
    drop(other);
    let before = std::fs::read(file("other.db")).unwrap();
    assert!(connect(&url("other.db")).await.is_err());
    assert_eq!(std::fs::read(file("other.db")).unwrap(), before);
    is_made_only_by_migrate(&url("other.db")).await;

    for url in [servers::postgres::unmade_url(), servers::redis::unmade_url()].into_iter().flatten() {
        is_made_only_by_migrate(&url).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_only_select_looks_and_is_let_in_when_it_may_write() {
    let Some(server) = PostgresServer::start() else { return };
    let id = filled(&server.url()).await;
    server.query("CREATE ROLE looks LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO looks");
    let url = server.url().replace("postgres@", "looks@");
    cannot_start(&url).await;
    let manager = looks(&url, id).await;
    server.query("GRANT ALL ON ALL TABLES IN SCHEMA public TO looks; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO looks");
    eventually("it is let in", || async { manager.health().is_healthy().then_some(()) }).await;
    soon(manager.add_task(keep, ())).await.unwrap();
    let instances = soon(manager.instances()).await.unwrap();
    assert_eq!(instances.len(), 1, "{instances:?}");
    soon(manager.shutdown(Duration::ZERO)).await.unwrap();
    let there = server.query("SELECT count(*) FROM taskflow_instances WHERE gone_at IS NULL");
    assert_eq!(there, "0", "a viewer that has become a full member leaves at its shutdown");

    // A namespace without a store has nothing to look at.
    server.query("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM looks");
    let error = connect(&format!("{url}?namespace=other")).await.unwrap_err();
    assert!(error.to_string().contains("start a manager"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_transactions_only_read_is_looked_at() {
    let Some(server) = PostgresServer::start() else { return };
    let id = filled(&server.url()).await;
    server.query("ALTER DATABASE postgres SET default_transaction_read_only = on");
    cannot_start(&server.url()).await;
    soon(looks(&server.url(), id).await.shutdown(Duration::ZERO)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_user_that_may_only_read_looks() {
    let Some(server) = RedisServer::start() else { return };
    let id = filled(&server.url()).await;
    let rules =
        ["ACL", "SETUSER", "looks", "on", ">seen", "~*", "&*", "+@read", "+@connection", "+@scripting"];
    server.ask(&[&rules[..], &["+time", "+subscribe", "+info"]].concat()).unwrap();
    let url = server.url().replace("redis://", "redis://looks:seen@");
    cannot_start(&url).await;
    soon(looks(&url, id).await.shutdown(Duration::ZERO)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_replica_is_looked_at() {
    let (Some(primary), Some(replica)) = (RedisServer::start(), RedisServer::start()) else { return };
    let id = filled(&primary.url()).await;
    replica.ask(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).unwrap();
    eventually("the replica has it all", || async {
        let role = replica.ask(&["INFO", "replication"]).unwrap_or_default();
        let keys = replica.ask(&["DBSIZE"]).unwrap_or_default();
        (role.contains("role:slave") && keys == primary.ask(&["DBSIZE"]).unwrap_or_default()).then_some(())
    })
    .await;
    cannot_start(&replica.url()).await;
    soon(looks(&replica.url(), id).await.shutdown(Duration::ZERO)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_outside_is_healthy_again_as_soon_as_the_store_answers() {
    let place = support::Place::memory();
    let is_away = Arc::new(AtomicBool::new(false));
    let store = {
        let is_away = is_away.clone();
        Wrapper::new(place.store(), move |_| match is_away.load(Ordering::SeqCst) {
            true => Box::pin(async { Err(StoreError::new(StoreErrorKind::Unavailable, "it is away")) }),
            false => go_on(),
        })
    };
    let outside = soon(TaskManager::builder().store(store).view()).await.unwrap();
    assert!(outside.health().is_healthy());
    is_away.store(true, Ordering::SeqCst);
    soon(outside.counts()).await.unwrap_err();
    assert!(!outside.health().is_healthy());
    is_away.store(false, Ordering::SeqCst);
    // A viewer writes nothing by itself, so only a read can show that the store is back.
    soon(outside.counts()).await.unwrap();
    assert!(outside.health().is_healthy(), "{:?}", outside.health());
    assert_eq!(soon(outside.instances()).await.unwrap(), []);
}
