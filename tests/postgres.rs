//! Promises of the PostgreSQL store: migrations under a lock, a server that restarts, the caller's own transactions, and what SQL
//! shows.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/postgres_rows.rs"]
mod postgres_rows;
#[path = "support/servers/mod.rs"]
mod servers;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postgres_rows::{DEADLINE, connect, insert, new_task, process, soon, split};
use servers::postgres::{PostgresServer, shared_url, unmade_url};
use taskflow::sqlx::postgres::{PgPool, PgPoolOptions};
use taskflow::sqlx::{self, Connection, Row};
use taskflow::store::Store;
use taskflow::{
    AddError, NewTask, PostgresStore, QueueConfig, State, TaskManager, TaskManagerBuilder, TaskStatus,
    model::StoreErrorKind,
};
use tokio::net::{TcpListener, TcpStream};

#[taskflow::task]
async fn double(number: i64) -> Result<i64, String> {
    Ok(number * 2)
}

#[taskflow::task]
async fn ask(number: i64, State(pool): State<PgPool>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT $1 + 1").bind(number).fetch_one(&pool).await
}

/// A manager of the task that needs nothing.
fn manager(url: &str) -> TaskManagerBuilder {
    TaskManager::builder().store(url).only(["double"])
}

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_may_make_the_schema_at_once() {
    let Some(url) = unmade_url() else { return };
    let joins = (0..24).map(|_| {
        let store = PostgresStore::open(&url).unwrap();
        tokio::spawn(async move { store.join(&process()).await })
    });
    for join in joins.collect::<Vec<_>>() {
        join.await.unwrap().unwrap();
    }
    let versions = format!("SELECT count(*) FROM taskflow_{}_migrations", split(&url).1);
    let count: i64 =
        sqlx::query_scalar(sqlx::AssertSqlSafe(versions)).fetch_one(&mut connect(&url).await).await.unwrap();
    assert_eq!(count, 1);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_an_older_program_at_work_goes_on() {
    let Some(url) = shared_url() else { return };
    let at_work = PostgresStore::open(&url).unwrap();
    at_work.join(&process()).await.unwrap();
    let newer = format!("INSERT INTO taskflow_{}_migrations (version) VALUES (999)", split(&url).1);
    sqlx::raw_sql(sqlx::AssertSqlSafe(newer)).execute(&mut connect(&url).await).await.unwrap();
    let refused = PostgresStore::open(&url).unwrap().join(&process()).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::NewerSchema);
    assert!(refused.to_string().contains("update this program"), "{refused}");
    at_work.insert(insert(new_task())).await.unwrap();
    assert_eq!(at_work.counts().await.unwrap().pending, 1);
}

#[tokio::test]
async fn a_schema_of_another_development_version_is_refused() {
    let Some(url) = shared_url() else { return };
    PostgresStore::open(&url).unwrap().join(&process()).await.unwrap();
    PostgresStore::open(&url).unwrap().join(&process()).await.unwrap();
    let table = format!("taskflow_{}_migrations", split(&url).1);
    for change in ["UPDATE $ SET fingerprint = 'other'", "ALTER TABLE $ DROP COLUMN fingerprint"] {
        let change = sqlx::AssertSqlSafe(change.replace('$', &table));
        sqlx::raw_sql(change).execute(&mut connect(&url).await).await.unwrap();
        let refused = PostgresStore::open(&url).unwrap().join(&process()).await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::NotAStore);
        assert!(refused.to_string().contains("development version"), "{refused}");
    }
}

#[tokio::test]
async fn a_table_of_somebody_else_is_left_alone() {
    let Some(url) = unmade_url() else { return };
    let theirs = format!("CREATE TABLE taskflow_{}_tasks (id INT)", split(&url).1);
    sqlx::raw_sql(sqlx::AssertSqlSafe(theirs)).execute(&mut connect(&url).await).await.unwrap();
    let refused = PostgresStore::open(&url).unwrap().join(&process()).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::NotAStore);
    assert!(refused.to_string().contains("namespace"), "{refused}");
}

#[tokio::test]
async fn sql_shows_a_nul_character_by_its_symbol_and_json_as_it_is() {
    let Some(url) = shared_url() else { return };
    let store = PostgresStore::open(&url).unwrap();
    store.join(&process()).await.unwrap();
    let mut new = NewTask::new("double", Ok(Arc::from(r#"{"text":"a\u0000b␀"}"#)));
    new.idempotency_key = Some("a\0b␀".to_owned());
    store.insert(insert(new)).await.unwrap();
    let query = format!("SELECT idempotency_key, args FROM taskflow_{}_tasks", split(&url).1);
    let row = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_one(&mut connect(&url).await).await.unwrap();
    assert_eq!(row.get::<&str, _>(0), "a␀0b␀␀");
    assert_eq!(row.get::<&str, _>(1), r#"{"text":"a\u0000b␀"}"#);
}

#[test]
fn a_password_is_never_shown() {
    let store = PostgresStore::open("postgres://app:s3cret@db.example/shop?namespace=shop").unwrap();
    let shown = format!("{} {store:?}", store.location());
    assert!(
        shown.contains("postgres://app@db.example:5432/shop?namespace=shop") && !shown.contains("s3cret")
    );
    let refused = PostgresStore::open("postgres://app:s3cret@db.example/shop?nonsense=1").unwrap_err();
    assert!(!refused.to_string().contains("s3cret"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_sql_adds_a_task_that_runs_and_is_counted() {
    let Some(url) = shared_url() else { return };
    let tasks = manager(&url).start().await.unwrap();
    let mut sql = connect(&url).await;
    let add = format!("SELECT taskflow_{}_add('double', '{{\"number\":4}}')", split(&url).1);
    let id: sqlx::types::Uuid =
        sqlx::query_scalar(sqlx::AssertSqlSafe(add)).fetch_one(&mut sql).await.unwrap();
    let id = taskflow::TaskId::from(id);
    let ended = soon(async {
        loop {
            let task = tasks.get(id).await.unwrap().unwrap();
            if task.status.is_final() {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let ended = ended.await;
    assert_eq!((ended.status, ended.result.unwrap().get()), (TaskStatus::Success, "8"));
    assert_eq!(id.to_string().as_bytes()[14], b'7', "a version 7 UUID: {id}");
    let counts = tasks.counts().await.unwrap();
    assert_eq!((counts.total(), counts.success), (1, 1));
    let bad = format!("SELECT taskflow_{}_add('double', 'no json')", split(&url).1);
    assert!(sqlx::query(sqlx::AssertSqlSafe(bad)).execute(&mut sql).await.is_err());
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_is_part_of_the_callers_transaction() {
    let Some(url) = shared_url() else { return };
    let tasks = manager(&url).queue("small", QueueConfig::new().max_size(1)).start().await.unwrap();
    let mut sql = connect(&url).await;

    let mut transaction = sql.begin().await.unwrap();
    let undone = tasks.add_task(double, (1,)).within_postgres(&mut transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    assert!(tasks.get(undone.id()).await.unwrap().is_none());

    let mut transaction = sql.begin().await.unwrap();
    let add = || tasks.add_task(double, (2,)).queue("small").run_in(DEADLINE * 100);
    let kept = tasks.add_task(double, (3,)).idempotency_key("k").eager(true);
    let kept = kept.within_postgres(&mut transaction).await.unwrap();
    let again = tasks.add_task(double, (3,)).idempotency_key("k").within_postgres(&mut transaction).await;
    assert!(again.is_ok_and(|again| again.is_duplicate() && again.id() == kept.id()));
    let waits = add().within_postgres(&mut transaction).await.unwrap();
    let full = add().within_postgres(&mut transaction).await.unwrap_err();
    assert!(matches!(full, AddError::QueueFull { .. }), "{full}");
    assert!(tasks.get(kept.id()).await.unwrap().is_none(), "not before the commit");
    transaction.commit().await.unwrap();
    assert!(tasks.get(waits.id()).await.unwrap().is_some());
    assert_eq!(soon(kept.wait()).await.unwrap(), 6);
    let counts = tasks.counts().await.unwrap();
    assert_eq!((counts.total(), counts.success, counts.pending), (2, 1, 1));

    let outside = tasks.add_task(double, (4,)).within_postgres(&mut sql).await.unwrap_err();
    assert!(outside.to_string().contains("begin one"), "{outside}");
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();

    let elsewhere = TaskManager::builder().connect().await.unwrap();
    let mut transaction = sql.begin().await.unwrap();
    let refused = elsewhere.add_task(double, (5,)).within_postgres(&mut transaction).await.unwrap_err();
    assert!(refused.to_string().contains("PostgresStore"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_one_connection_serves_the_store_and_the_tasks() {
    let Some(url) = shared_url() else { return };
    let (server, namespace) = split(&url);
    let pool = PgPoolOptions::new().max_connections(1).connect(server).await.unwrap();
    let store = PostgresStore::from_pool(pool.clone(), Some(namespace)).unwrap();
    let tasks = TaskManager::builder().store(store).state(pool).start().await.unwrap();
    let adds: Vec<_> = (0..50).map(|number| tasks.add_task(ask, (number,))).collect();
    let handles = tasks.add_all(adds).await.unwrap();
    for (number, handle) in (0..).zip(handles) {
        assert_eq!(soon(handle.wait()).await.unwrap(), number + 1);
    }
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_under_load_loses_nothing_and_work_goes_on() {
    let Some(server) = PostgresServer::start() else { return };
    let mut server = server;
    let tasks = manager(&server.url()).add_timeout(DEADLINE).start().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let adders: Vec<_> = (0..8)
        .map(|_| {
            let (tasks, stop) = (tasks.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut accepted = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match tasks.add_task(double, (1,)).await {
                        Ok(handle) => accepted.push(handle.id()),
                        Err(error) => assert!(error.is_transient(), "{error:?}"),
                    }
                }
                accepted
            })
        })
        .collect();
    for kill in [true, false] {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let mut held = server;
        server = tokio::task::spawn_blocking(move || {
            if kill {
                held.kill()
            } else {
                held.stop()
            };
            held.restart();
            held
        })
        .await
        .unwrap();
        // A task that is added from now on ends soon.
        let since = Instant::now();
        let handle = soon(tasks.add_task(double, (5,)).into_future()).await.unwrap();
        assert_eq!(soon(handle.wait()).await.unwrap(), 10);
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    let mut accepted = HashSet::new();
    for adder in adders {
        accepted.extend(soon(adder).await.unwrap());
    }
    soon(async {
        while tasks.counts().await.map_or(true, |counts| counts.unfinished() > 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    for id in &accepted {
        let task = tasks.get(*id).await.unwrap().expect("it was accepted");
        assert_eq!(task.status, TaskStatus::Success, "{task:?}");
    }
    assert!(accepted.len() > 100, "{}", accepted.len());
    tasks.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// Passes bytes on until it is told to stop. Then every open connection stays open and silent, as if the network were lost. New
/// connections work again.
async fn proxy(listener: TcpListener, port: u16, silent: tokio::sync::watch::Receiver<u32>) {
    loop {
        let (mut from, _) = listener.accept().await.unwrap();
        let mut silent = silent.clone();
        silent.borrow_and_update();
        tokio::spawn(async move {
            let mut to = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let pass = tokio::io::copy_bidirectional(&mut from, &mut to);
            tokio::select! {
                _ = pass => {}
                _ = silent.changed() => std::future::pending::<()>().await,
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_gone_silent_is_noticed_within_ten_seconds() {
    let Some(server) = PostgresServer::start() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://postgres@{}/postgres", listener.local_addr().unwrap());
    let (silence, silent) = tokio::sync::watch::channel(0);
    tokio::spawn(proxy(listener, server.port(), silent));

    let store = PostgresStore::open(&url).unwrap();
    store.join(&process()).await.unwrap();
    let new = new_task();
    silence.send(1).unwrap();
    let since = Instant::now();
    let failed = store.insert(insert(new.clone())).await.unwrap_err();
    assert_eq!(failed.kind(), StoreErrorKind::Unknown, "{failed}");
    assert!(failed.to_string().contains("may or may not"), "{failed}");
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    store.insert(insert(new)).await.unwrap();
    assert_eq!(store.counts().await.unwrap().pending, 1, "the repeated insert inserted once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_unavailable_not_a_panic() {
    let port = servers::free_port();
    assert_eq!(
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    let store = PostgresStore::open(format!("postgres://nobody@127.0.0.1:{port}/nothing")).unwrap();
    let failed = store.insert(insert(new_task())).await.unwrap_err();
    assert_eq!(failed.kind(), StoreErrorKind::Unavailable);
    assert!(failed.to_string().contains("cannot be reached"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_adds_is_heard_of_at_once() {
    let Some(url) = shared_url() else { return };
    let runs = manager(&url).start().await.unwrap();
    let adds = manager(&url).connect().await.unwrap();
    // With a poll each second, this would take about ten seconds.
    let mut waits = Vec::new();
    for number in 0..20 {
        let since = Instant::now();
        let handle = adds.add_task(double, (number,)).await.unwrap();
        assert_eq!(soon(handle.wait()).await.unwrap(), number * 2);
        waits.push(since.elapsed());
    }
    waits.sort();
    assert!(waits[10] < Duration::from_millis(300), "{waits:?}");
    runs.shutdown(Duration::from_secs(1)).await.unwrap();
    adds.shutdown(Duration::from_secs(1)).await.unwrap();
}
