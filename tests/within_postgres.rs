//! An add within the caller's transaction: whatever goes wrong, the commit keeps exactly what the add answered.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::time::{Duration, Instant};

use servers::postgres::{PostgresServer, shared_url};
use support::{eventually, soon};
use taskflow::sqlx::{self, Connection, PgConnection};
use taskflow::{AddError, QueueConfig, TaskFilter, TaskManager};

#[taskflow::task]
async fn double(number: i64) -> Result<i64, String> {
    Ok(number * 2)
}

async fn manager(url: &str) -> TaskManager {
    let builder = TaskManager::builder().store(url).queue("small", QueueConfig::new().max_size(5));
    builder.connect().await.unwrap()
}

async fn timeout_of(sql: &mut PgConnection) -> String {
    sqlx::query_scalar("SELECT current_setting('statement_timeout')").fetch_one(sql).await.unwrap()
}

/// Waits until a session waits for a lock.
async fn until_blocked(sql: &mut PgConnection, namespace: &str) {
    let waits =
        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1)";
    soon(async {
        let like = format!("%{namespace}%");
        while !sqlx::query_scalar::<_, bool>(waits).bind(&like).fetch_one(&mut *sql).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_that_a_lock_blocks_past_the_limit_leaves_nothing_and_the_transaction_goes_on() {
    let Some(url) = shared_url() else { return };
    let (server, namespace) = url.split_once("?namespace=").unwrap();
    let tasks = manager(&url).await;
    let mut sql = PgConnection::connect(server).await.unwrap();
    let mut somebody = PgConnection::connect(server).await.unwrap();
    // One transaction is begun by sqlx, and one by hand.
    for by_hand in [false, true] {
        let mut blocking = somebody.begin().await.unwrap();
        let lock = format!("LOCK TABLE taskflow_{namespace}_tasks IN ACCESS EXCLUSIVE MODE");
        sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut *blocking).await.unwrap();
        let since = Instant::now();
        let said = if by_hand {
            sqlx::raw_sql("BEGIN; SET LOCAL statement_timeout = '1s'; CREATE TEMP TABLE mine (id int)")
                .execute(&mut sql)
                .await
                .unwrap();
            let said = tasks.add_task(double, (1,)).within_postgres(&mut sql).await;
            blocking.rollback().await.unwrap();
            assert_eq!(timeout_of(&mut sql).await, "1s");
            sqlx::raw_sql("INSERT INTO mine VALUES (1); COMMIT").execute(&mut sql).await.unwrap();
            said
        } else {
            let mut transaction = sql.begin().await.unwrap();
            let said = tasks.add_task(double, (1,)).within_postgres(&mut transaction).await;
            blocking.rollback().await.unwrap();
            assert_eq!(timeout_of(&mut transaction).await, "0");
            transaction.commit().await.unwrap();
            said
        };
        let said = said.expect_err("the table is locked");
        assert!(matches!(&said, AddError::Store(error) if error.is_transient()), "{said:?}");
        assert!(said.to_string().contains("not stored"), "{said}");
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
        assert!(tasks.list(TaskFilter::all()).await.unwrap().items.is_empty(), "it was not stored");
    }
    let mine: i64 = sqlx::query_scalar("SELECT count(*) FROM mine").fetch_one(&mut sql).await.unwrap();
    assert_eq!(mine, 1, "what the caller wrote was committed");
    tasks.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_that_hears_nothing_may_be_stored_and_says_so() {
    let Some(server) = PostgresServer::start() else { return };
    let tasks = manager(&servers::made(server.url())).await;
    let mut sql = PgConnection::connect(&server.url()).await.unwrap();
    let mut transaction = sql.begin().await.unwrap();
    // The caller's own timeout is longer than ours: the server waits silently.
    sqlx::raw_sql("SET LOCAL statement_timeout = '1min'").execute(&mut *transaction).await.unwrap();
    let mut somebody = PgConnection::connect(&server.url()).await.unwrap();
    let mut blocking = somebody.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE taskflow_tasks IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *blocking)
        .await
        .unwrap();
    let said = tasks.add_task(double, (1,)).within_postgres(&mut transaction).await.unwrap_err();
    blocking.rollback().await.unwrap();
    transaction.commit().await.unwrap_err();
    let AddError::Unknown { id, .. } = said else { panic!("{said:?}") };
    assert!(tasks.get(id).await.unwrap().is_none());
    assert_eq!(tasks.counts().await.unwrap().total(), 0);
    tasks.shutdown(Duration::ZERO).await.unwrap();
}

/// The caller gets no answer, so nothing is kept, also not the caller's own writes. The connection can still be used.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_add_was_given_up_cannot_be_committed() {
    let Some(url) = shared_url() else { return };
    let (server, namespace) = url.split_once("?namespace=").unwrap();
    let tasks = manager(&url).await;
    let mut sql = PgConnection::connect(server).await.unwrap();
    let mut somebody = PgConnection::connect(server).await.unwrap();
    let mut watcher = PgConnection::connect(server).await.unwrap();
    for commits in [false, true] {
        let mut blocking = somebody.begin().await.unwrap();
        let lock = format!("LOCK TABLE taskflow_{namespace}_tasks IN ACCESS EXCLUSIVE MODE");
        sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut *blocking).await.unwrap();
        let mut transaction = sql.begin().await.unwrap();
        {
            let add = tasks.add_task(double, (1,)).within_postgres(&mut transaction);
            let mut add = std::pin::pin!(add);
            tokio::select! {
                answer = &mut add => panic!("{answer:?}"),
                () = until_blocked(&mut watcher, namespace) => {}
            }
        }
        blocking.rollback().await.unwrap();
        if commits {
            let refused = transaction.commit().await.unwrap_err();
            assert!(refused.to_string().contains("add_was_given_up"), "{refused}");
        } else {
            transaction.rollback().await.unwrap();
        }
        assert!(tasks.list(TaskFilter::all()).await.unwrap().items.is_empty());
        assert_eq!(tasks.counts().await.unwrap().total(), 0);
    }
    // The same connection serves the next.
    let mut transaction = sql.begin().await.unwrap();
    let kept = tasks.add_task(double, (2,)).queue("small").within_postgres(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
    eventually("it is stored", || async { tasks.get(kept.id()).await.unwrap() }).await;
    tasks.shutdown(Duration::ZERO).await.unwrap();
}
