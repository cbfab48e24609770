//! What PostgreSQL in particular promises: migrations under a lock, a server that comes and goes, the caller's own
//! transactions, and what is to be seen in SQL.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/servers/mod.rs"]
mod servers;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use servers::postgres::{PostgresServer, shared_url};
use taskflow::sqlx::postgres::{PgPool, PgPoolOptions};
use taskflow::sqlx::{self, Connection, PgConnection, Row};
use taskflow::store::{
    Claim, Finish, FinishKind, Finished, InsertBatch, InsertGroup, InsertTask, Renewal, Run, SharedLimits,
    Start, Store,
};
use taskflow::{
    AddError, InstanceInfo, NewTask, PostgresStore, QueueConfig, State, TaskManager, TaskManagerBuilder,
    TaskStatus, model::StoreErrorKind,
};
use tokio::net::{TcpListener, TcpStream};

const DEADLINE: Duration = Duration::from_secs(30);

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

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it did not come before the deadline")
}

/// The URL of the server alone, and the namespace in it.
fn split(url: &str) -> (&str, &str) {
    url.split_once("?namespace=").expect("it has a namespace")
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(split(url).0).await.unwrap()
}

fn process() -> InstanceInfo {
    InstanceInfo::of_this_process(true)
}

fn insert(new: NewTask) -> Arc<InsertBatch> {
    let group = InsertGroup::new(vec![InsertTask::new(new, Start::Wait)]);
    Arc::new(InsertBatch::new(process().id, DEADLINE, vec![group]))
}

fn new_task() -> NewTask {
    NewTask::new("double", Ok(Arc::from(r#"{"number":21}"#)))
}

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_may_make_the_schema_at_once() {
    let Some(url) = shared_url() else { return };
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
async fn a_table_of_somebody_else_is_left_alone() {
    let Some(url) = shared_url() else { return };
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
        // A task added from here on ends soon.
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

/// Passes bytes on until it is told to stop; then it keeps every connection open and silent, as a machine does that lost
/// its network. New connections pass again.
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
    // The polls of a second would take some ten.
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

/// A renewal that is not committed yet when an end looks for its run makes another version of the row.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_counts_that_comes_while_its_lease_is_renewed() {
    let Some(url) = shared_url() else { return };
    let store = PostgresStore::open(&url).unwrap();
    let me = process();
    store.join(&me).await.unwrap();
    let names: Arc<[Arc<str>]> = Arc::from(["double".into()]);
    let claim = |limit| Claim::new(me.id, DEADLINE, names.clone(), vec![("default".into(), limit)], limit);
    for with_a_claim in [false, true] {
        store.insert(insert(new_task())).await.unwrap();
        let run = store.claim(claim(1)).await.unwrap().tasks.remove(0).run;
        let table = format!("taskflow_{}_tasks", split(&url).1);
        let mut somebody = connect(&url).await;
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut somebody).await.unwrap();
        let mut renewing = somebody.begin().await.unwrap();
        let renew =
            format!("UPDATE {table} SET lease_until = lease_until + interval '1 s' WHERE id = '{}'", run.id);
        sqlx::raw_sql(sqlx::AssertSqlSafe(renew)).execute(&mut *renewing).await.unwrap();
        let ending = {
            let (store, claim) = (store.clone(), claim(1));
            let ends = Arc::new(vec![Finish::new(run, FinishKind::Success { result: "1".into() })]);
            tokio::spawn(async move {
                if with_a_claim {
                    store.turn(ends, claim).await.map(|it| it.0)
                } else {
                    store.finish(ends).await
                }
            })
        };
        until_blocked_by(pid, &url, || ending.is_finished()).await;
        renewing.commit().await.unwrap();
        let ended = soon(ending).await.unwrap().unwrap();
        assert!(matches!(ended[..], [Finished::Applied(TaskStatus::Success)]), "{ended:?}");
    }
}

/// Waits until another connection waits for this one, or `over`.
async fn until_blocked_by(pid: i32, url: &str, over: impl Fn() -> bool) {
    let mut watcher = connect(url).await;
    let waits = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))";
    soon(async {
        while !over()
            && !sqlx::query_scalar::<_, bool>(waits).bind(pid).fetch_one(&mut watcher).await.unwrap()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// To wait for a row could end in a deadlock with a finish, which the server takes a second to notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_waits_for_no_row_and_takes_none_for_lost() {
    let Some(url) = shared_url() else { return };
    let store = PostgresStore::open(&url).unwrap();
    let me = process();
    store.join(&me).await.unwrap();
    for _ in 0..2 {
        store.insert(insert(new_task())).await.unwrap();
    }
    let names: Arc<[Arc<str>]> = Arc::from(["double".into()]);
    let claim = Claim::new(me.id, DEADLINE, names, vec![("default".into(), 2)], 2);
    let runs: Vec<Run> = store.claim(claim).await.unwrap().tasks.iter().map(|task| task.run).collect();
    assert_eq!(runs.len(), 2);

    // Somebody is writing the first row.
    let table = format!("taskflow_{}_tasks", split(&url).1);
    let mut somebody = connect(&url).await;
    let mut writing = somebody.begin().await.unwrap();
    let lock = format!("SELECT 1 FROM {table} WHERE id = '{}' FOR UPDATE", runs[0].id);
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut *writing).await.unwrap();

    let lease = 10 * DEADLINE;
    let renew = || store.renew(Renewal::new(me.id, lease, runs.clone()));
    let renewed = tokio::time::timeout(Duration::from_secs(3), renew()).await.expect("it waits").unwrap();
    assert!(renewed.lost.is_empty(), "{renewed:?}");
    let far = format!(
        "SELECT count(*) FROM {table} WHERE lease_until > now() + interval '{} s'",
        lease.as_secs() / 2
    );
    let mut reader = connect(&url).await;
    let renewed_rows = async |reader: &mut PgConnection| {
        let query = sqlx::query(sqlx::AssertSqlSafe(far.clone()));
        query.fetch_one(reader).await.unwrap().get::<i64, _>(0)
    };
    assert_eq!(renewed_rows(&mut reader).await, 1, "the other row was renewed");
    writing.rollback().await.unwrap();
    assert!(renew().await.unwrap().lost.is_empty());
    assert_eq!(renewed_rows(&mut reader).await, 2);
}

/// Both in one recovery: the run comes back to wait for its first attempt, where the hold has waited all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_keeps_its_run_key_when_a_run_that_had_it_before_is_lost_beside_it() {
    let Some(url) = shared_url() else { return };
    let store = PostgresStore::open(&url).unwrap();
    let me = process();
    store.join(&me).await.unwrap();
    let add = async |start| {
        let mut new = new_task();
        new.run_key = Some("nightly".to_owned());
        new.policy.to_mut().requeue_on_interrupt = true;
        let id = new.id;
        let group = InsertGroup::new(vec![InsertTask::new(new, start)]);
        let batch = InsertBatch::new(me.id, DEADLINE, vec![group]);
        store.insert(Arc::new(batch)).await.unwrap()[0].as_ref().unwrap();
        id
    };
    let run = add(Start::Lease).await;
    let hold = add(Start::Hold).await;
    store.leave(me.id).await.unwrap();
    assert_eq!(store.recover(me.id).await.unwrap().len(), 2);
    let key = async |id| store.get(id).await.unwrap().unwrap().run_key;
    assert_eq!((key(run).await, key(hold).await.as_deref()), (None, Some("nightly")));
}

/// The planner takes what goes along an index for long work, and to compile it takes far longer than to do it.
#[tokio::test]
async fn nothing_of_ours_is_compiled_by_the_server() {
    let Some(url) = shared_url() else { return };
    let (server, namespace) = split(&url);
    let pool = PgPoolOptions::new().max_connections(1).connect(server).await.unwrap();
    let own = PostgresStore::open(&url).unwrap();
    let behind_a_pooler = PostgresStore::open(format!("{url}&listen=off")).unwrap();
    let of_the_application = PostgresStore::from_pool(pool, Some(namespace)).unwrap();
    own.join(&process()).await.unwrap();
    let mut watcher = connect(&url).await;
    let watch = format!(
        "CREATE TABLE seen_{namespace} (operation text, jit text);
         CREATE FUNCTION see_{namespace}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO seen_{namespace} VALUES (tg_op, current_setting('jit'));
             RETURN NULL;
         END $$;
         CREATE TRIGGER see AFTER INSERT OR UPDATE ON taskflow_{namespace}_tasks
             FOR EACH STATEMENT EXECUTE FUNCTION see_{namespace}();"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(watch)).execute(&mut watcher).await.unwrap();
    let seen = format!("DELETE FROM seen_{namespace} RETURNING operation, jit");
    let mut seen = async || -> Vec<(String, String)> {
        sqlx::query_as(sqlx::AssertSqlSafe(seen.clone())).fetch_all(&mut watcher).await.unwrap()
    };
    let off = |operation: &str| (operation.to_owned(), "off".to_owned());
    let new = new_task();
    let id = new.id;
    own.insert(insert(new)).await.unwrap();
    assert_eq!(seen().await, [off("INSERT")], "a statement alone");
    // Where sessions are not ours, it is so for each transaction.
    for store in [&own, &behind_a_pooler, &of_the_application] {
        store.cancel(vec![id], String::new()).await.unwrap();
        store.retry(vec![id]).await.unwrap().remove(0).unwrap();
        assert_eq!(seen().await, [off("UPDATE"), off("UPDATE")]);
    }
    let on: String =
        sqlx::query_scalar("SELECT current_setting('jit')").fetch_one(&mut watcher).await.unwrap();
    assert_eq!(on, "on", "the server would compile it");
}

/// What a claim puts aside while the end of another task of its key is under way, that end lets go.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_waits_for_a_claim_that_puts_tasks_of_its_key_aside() {
    let Some(url) = shared_url() else { return };
    let store = PostgresStore::open(&url).unwrap();
    let me = process();
    store.join(&me).await.unwrap();
    for _ in 0..2 {
        let mut new = new_task();
        new.concurrency_key = Some("tenant".to_owned());
        store.insert(insert(new)).await.unwrap();
    }
    let claim = || {
        let names: Arc<[Arc<str>]> = Arc::from(["double".into()]);
        let mut claim = Claim::new(me.id, DEADLINE, names, vec![("default".into(), 1)], 1);
        let one = SharedLimits::of(&QueueConfig::new().key_concurrency(1));
        claim.limits = Arc::from([("default".into(), one)]);
        store.claim(claim)
    };
    let first = claim().await.unwrap().tasks.remove(0).run;

    // As a claim of another process does it.
    let prefix = format!("taskflow_{}", split(&url).1);
    let mut somebody = connect(&url).await;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut somebody).await.unwrap();
    let mut claiming = somebody.begin().await.unwrap();
    let aside = format!(
        "SELECT 1 FROM {prefix}_queues WHERE name = 'default' FOR UPDATE;
         UPDATE {prefix}_tasks SET state = -1 WHERE state = 0"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(aside)).execute(&mut *claiming).await.unwrap();
    let kind = FinishKind::Success { result: "1".into() };
    let finish = {
        let store = store.clone();
        tokio::spawn(async move { store.finish(Arc::new(vec![Finish::new(first, kind)])).await })
    };
    until_blocked_by(pid, &url, || finish.is_finished()).await;
    claiming.commit().await.unwrap();
    soon(finish).await.unwrap().unwrap();
    assert_eq!(claim().await.unwrap().tasks.len(), 1, "the next of the key");
}

/// A connection keeps its plans, and the server may know of a new table that it has one row.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_planned_when_the_table_was_small_reads_few_rows_when_it_is_large() {
    const ROUNDS: usize = 10;
    const EACH: usize = 16;
    const OTHERS: usize = 3_000;
    let Some(url) = shared_url() else { return };
    let url = format!("{url}&connections=1");
    let store = PostgresStore::open(&url).unwrap();
    let me = process();
    store.join(&me).await.unwrap();
    let add = async |tasks: usize| {
        let tasks = (0..tasks).map(|_| InsertTask::new(new_task(), Start::Wait)).collect();
        let batch = InsertBatch::new(me.id, DEADLINE, vec![InsertGroup::new(tasks)]);
        store.insert(Arc::new(batch)).await.unwrap();
    };
    let turn = async |ends: Vec<Run>, most: usize| {
        let well = |run: Run| Finish::new(run, FinishKind::Success { result: "null".into() });
        let names: Arc<[Arc<str>]> = Arc::from(["double".into()]);
        let claim = Claim::new(me.id, DEADLINE, names, vec![("default".into(), most)], most);
        let ends = Arc::new(ends.into_iter().map(well).collect());
        let (_, claims) = store.turn(ends, claim).await.unwrap();
        let runs: Vec<Run> = claims.tasks.iter().map(|task| task.run).collect();
        store.renew(Renewal::new(me.id, DEADLINE, runs.clone())).await.unwrap();
        runs
    };
    let prefix = format!("taskflow_{}", split(&url).1.trim_end_matches("&connections=1"));
    let mut server = connect(&url).await;
    add(1).await;
    let small = format!("VACUUM ANALYZE {prefix}_tasks");
    sqlx::raw_sql(sqlx::AssertSqlSafe(small)).execute(&mut server).await.unwrap();
    let mut runs = Vec::new();
    for _ in 0..ROUNDS {
        runs = turn(runs, 1).await;
    }

    let read = format!(
        "SELECT coalesce(sum(idx_tup_read), 0)::bigint + (
             SELECT seq_tup_read FROM pg_stat_all_tables WHERE relname = '{prefix}_tasks'
         ), (SELECT n_tup_ins FROM pg_stat_all_tables WHERE relname = '{prefix}_tasks')
         FROM pg_stat_all_indexes WHERE relname = '{prefix}_tasks'"
    );
    // A server tells what was read about a second later, at the end of another statement.
    let mut read_at = async |inserted: usize| {
        soon(async {
            loop {
                store.counts().await.unwrap();
                let row =
                    sqlx::query(sqlx::AssertSqlSafe(read.clone())).fetch_one(&mut server).await.unwrap();
                if row.get::<i64, _>(1) >= i64::try_from(inserted).unwrap() {
                    return row.get::<i64, _>(0);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
    };
    add(OTHERS).await;
    let before = read_at(1 + OTHERS).await;
    for _ in 0..ROUNDS {
        runs = turn(runs, EACH).await;
    }
    assert_eq!(runs.len(), EACH);
    add(1).await;
    let rows = read_at(2 + OTHERS).await - before;
    assert!(rows < i64::try_from(ROUNDS * OTHERS).unwrap(), "{rows} rows were read for {ROUNDS} turns");
}
