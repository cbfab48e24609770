//! A server that lets a process read and not write: the process looks, and says so.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::time::Duration;

use servers::postgres::PostgresServer;
use servers::redis::RedisServer;
use support::{eventually, soon};
use taskflow::{AddError, Error, TaskFilter, TaskId, TaskManager, TaskStatus};

#[taskflow::task(name = "viewers.keep")]
async fn keep() {}

async fn connect(url: &str) -> Result<TaskManager, Error> {
    soon(TaskManager::builder().store(url).add_timeout(Duration::from_secs(10)).connect()).await
}

/// A store with one waiting task.
async fn filled(url: &str) -> TaskId {
    let tasks = connect(url).await.unwrap();
    let id = soon(tasks.add_task(keep, ())).await.unwrap().id();
    soon(tasks.shutdown(Duration::ZERO)).await.unwrap();
    id
}

/// Whoever connects there sees everything, changes nothing, and says so.
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

    // There is nothing to look at in a namespace that is no store.
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
