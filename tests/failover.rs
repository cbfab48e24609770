//! Broken connections to PostgreSQL are dropped, and calls are repeated on new ones.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::time::{Duration, Instant};

use proxy::Proxy;
use servers::pooler::Pooler;
use servers::postgres::{PostgresServer, shared_url};
use support::{eventually, soon};
use taskflow::sqlx::postgres::PgPoolOptions;
use taskflow::sqlx::{self, Connection, PgConnection};
use taskflow::store::{PostgresOptions, Store};
use taskflow::{InstanceInfo, PostgresStore, TaskManager};

#[taskflow::task]
async fn double(number: i64) -> Result<i64, String> {
    Ok(number * 2)
}

async fn adds_and_runs(tasks: &TaskManager) {
    let handle = soon(tasks.add_task(double, (4,))).await.unwrap();
    assert_eq!(soon(handle.wait()).await.unwrap(), 8);
}

/// The old primary is back as a standby, and every open connection leads to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_moves_from_a_demoted_server_to_the_promoted_one() {
    let Some(mut primary) = PostgresServer::start() else { return };
    let proxy = Proxy::to(primary.port()).await;
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
    let tasks = TaskManager::builder().store(&*url).only(["double"]).start().await.unwrap();
    adds_and_runs(&tasks).await;
    let (primary, standby) = tokio::task::spawn_blocking(move || {
        let standby = primary.standby();
        let end = primary.query("SELECT pg_current_wal_lsn()");
        servers::wait_until("the standby to have everything", || {
            standby.query(&format!("SELECT pg_last_wal_replay_lsn() >= '{end}'")) == "t"
        });
        standby.promote();
        primary.demote();
        (primary, standby)
    })
    .await
    .unwrap();
    assert_eq!(primary.query("SELECT pg_is_in_recovery()"), "t");
    // The worker has connections to the demoted server again before the address leads to the other one.
    eventually("it has connected to the demoted server", || async {
        let open = primary.query("SELECT count(*) FROM pg_stat_activity WHERE application_name = '' AND backend_type = 'client backend' AND pid <> pg_backend_pid()");
        (open != "0").then_some(())
    })
    .await;
    tasks.counts().await.unwrap();
    proxy.lead_to(standby.port());
    // The connection of the last read leads to the demoted server. The first write drops it.
    let since = Instant::now();
    adds_and_runs(&tasks).await;
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    let there = standby.query("SELECT count(*) FROM taskflow_tasks WHERE state = 4");
    assert_eq!(there, "2");
    soon(tasks.shutdown(Duration::from_secs(1))).await.unwrap();
}

/// Each call succeeds, also the first: the connections drop the statements that they prepared before the change.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_may_be_altered_beside_a_running_worker() {
    let Some(url) = shared_url() else { return };
    let (server, namespace) = url.split_once("?namespace=").unwrap();
    let pool = PgPoolOptions::new().max_connections(3).connect(server).await.unwrap();
    let pooled = PostgresStore::from_pool(pool, PostgresOptions::new().namespace(namespace)).unwrap();
    let mut sql = PgConnection::connect(server).await.unwrap();
    for store in [PostgresStore::open(&url).unwrap(), pooled] {
        let tasks = TaskManager::builder().store(store.clone()).only(["double"]).start().await.unwrap();
        adds_and_runs(&tasks).await;
        let id = tasks.add_task(double, (1,)).await.unwrap().id();
        let look = || async {
            let reads = (0..8).map(|_| store.get(id));
            for read in futures_util::future::join_all(reads).await {
                read.unwrap().unwrap();
            }
            store.queue_states().await.unwrap();
            store.schedules().await.unwrap();
        };
        for round in 0..2 {
            // Makes every connection prepare the statements.
            look().await;
            let ty = if round == 0 { "varchar" } else { "text" };
            let alter = format!(
                "ALTER TABLE taskflow_{namespace}_tasks ALTER COLUMN progress TYPE {ty},
                     ALTER COLUMN args TYPE {ty}, ALTER COLUMN tags TYPE {ty};
                 ALTER TABLE taskflow_{namespace}_queues ALTER COLUMN config TYPE {ty};
                 ALTER TABLE taskflow_{namespace}_schedules ALTER COLUMN definition TYPE {ty}"
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(alter)).execute(&mut sql).await.unwrap();
            look().await;
            adds_and_runs(&tasks).await;
        }
        assert_eq!(tasks.health().store_errors, 0);
        soon(tasks.shutdown(Duration::from_secs(1))).await.unwrap();
    }
}

/// After a server has ended its sessions (57P01), the store connects again.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_whose_session_is_ended_is_repeated() {
    let Some(server) = PostgresServer::start() else { return };
    let store = PostgresStore::open(server.url()).unwrap();
    store.join(&InstanceInfo::of_this_process(true)).await.unwrap();
    for _ in 0..5 {
        store.counts().await.unwrap();
        server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'");
        store.counts().await.unwrap();
    }
}

/// Another user of a pool has deallocated the prepared statements of its sessions (26000), has prepared others under the same
/// names (42P05), or both (08P01: the others have other parameters).
#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_session_forgot_its_statements_or_has_others_is_made_again() {
    const SESSIONS: u32 = 3;
    let Some(url) = shared_url() else { return };
    let (server, namespace) = url.split_once("?namespace=").unwrap();
    let other = |n| format!("PREPARE sqlx_s_{n} (int, int, int, int, int) AS SELECT $1 + $2 + $3 + $4 + $5;");
    let others: String = (1..100).map(other).collect();
    let both = format!("DEALLOCATE ALL; {others}");
    for (spoils, knows_statements) in [("DEALLOCATE ALL", true), (&*others, false), (&*both, true)] {
        let pool = PgPoolOptions::new().max_connections(SESSIONS).connect(server).await.unwrap();
        let store =
            PostgresStore::from_pool(pool.clone(), PostgresOptions::new().namespace(namespace)).unwrap();
        if knows_statements {
            store.join(&InstanceInfo::of_this_process(true)).await.unwrap();
            let reads = (0..32).map(|_| store.counts());
            futures_util::future::try_join_all(reads).await.unwrap();
        }
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS {
            let mut session = pool.acquire().await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(spoils.to_owned())).execute(&mut *session).await.unwrap();
            sessions.push(session);
        }
        drop(sessions);
        store.counts().await.unwrap();
        store.set_paused("default".to_owned(), false).await.unwrap();
        let reads = (0..32).map(|_| store.counts());
        futures_util::future::try_join_all(reads).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pooler_mixes_up_names_the_remedy_and_the_remedy_works() {
    let Some(server) = PostgresServer::start() else { return };
    let Some(pooler) = Pooler::start(&server) else { return };
    let me = InstanceInfo::of_this_process(true);
    // The pooler refuses a connection that has settings.
    let refused = PostgresStore::open(pooler.url()).unwrap().join(&me).await.unwrap_err();
    assert!(refused.to_string().contains("?listen=off"), "{refused}");

    // These connections have no settings, so the pooler takes them. But it may lead a call to a session without its statement.
    let pool = async || {
        let options: sqlx::postgres::PgConnectOptions = pooler.url().parse().unwrap();
        let options = options.extra_float_digits(None);
        PgPoolOptions::new().max_connections(4).connect_with(options).await.unwrap()
    };
    let remembers = PostgresStore::from_pool(pool().await, None).unwrap();
    let mixed_up = eventually("a statement of another session", || async {
        let asks = (0..8).map(|_| remembers.join(&me));
        futures_util::future::join_all(asks).await.into_iter().find_map(Result::err)
    })
    .await;
    assert!(mixed_up.to_string().contains("listen(false)"), "{mixed_up}");
    assert!(mixed_up.to_string().contains("?listen=off"), "{mixed_up}");

    let by_url = PostgresStore::open(format!("{}?listen=off", pooler.url())).unwrap();
    let by_pool = PostgresStore::from_pool(pool().await, PostgresOptions::new().listen(false)).unwrap();
    for store in [by_url, by_pool] {
        let tasks = TaskManager::builder().store(store).only(["double"]).start().await.unwrap();
        for _ in 0..20 {
            adds_and_runs(&tasks).await;
        }
        assert_eq!(tasks.health().store_errors, 0);
        soon(tasks.shutdown(Duration::from_secs(1))).await.unwrap();
    }
}
