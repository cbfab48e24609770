//! Promises of the PostgreSQL store about rows that several connections change, and about its plans.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/postgres_rows.rs"]
mod postgres_rows;
#[path = "support/servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::time::Duration;

use postgres_rows::{DEADLINE, connect, insert, new_task, process, soon, split};
use servers::postgres::shared_url;
use taskflow::sqlx::postgres::PgPoolOptions;
use taskflow::sqlx::{self, Connection, PgConnection, Row};
use taskflow::store::{
    Claim, Finish, FinishKind, Finished, InsertBatch, InsertGroup, InsertTask, Renewal, Reopen, RunRef,
    SharedLimits, Start, Store,
};
use taskflow::{PostgresStore, QueueConfig, TaskStatus};

/// A renewal makes a new version of the row, and commits while a finish searches for that run.
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

/// Waits until another connection waits for that of `pid`, or until `over` is true.
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

/// Waiting for a row could deadlock with a finish, and the server needs a second to notice that.
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
    let runs: Vec<RunRef> = store.claim(claim).await.unwrap().tasks.iter().map(|task| task.run).collect();
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

/// One recovery handles both: the run waits for its first attempt again, as the hold did all the time.
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

/// The planner overestimates scans along an index, and compiling them takes far longer than running them.
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
    // The store behind a pooler sets `jit` in each transaction.
    for store in [&own, &behind_a_pooler, &of_the_application] {
        store.cancel(vec![id], String::new()).await.unwrap();
        store.retry(Reopen::at_once([id])).await.unwrap().remove(0).unwrap();
        assert_eq!(seen().await, [off("UPDATE"), off("UPDATE")]);
    }
    let on: String =
        sqlx::query_scalar("SELECT current_setting('jit')").fetch_one(&mut watcher).await.unwrap();
    assert_eq!(on, "on", "the server would compile it");
}

/// A claim blocks a task while a finish of another task of its key is in flight; that finish unblocks it.
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
        let claim = Claim::new(me.id, DEADLINE, names, vec![("default".into(), 1)], 1);
        let one = SharedLimits::of(&QueueConfig::new().key_concurrency(1));
        store.claim(claim.with_limits("default", one))
    };
    let first = claim().await.unwrap().tasks.remove(0).run;

    // As a claim of another process does.
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

/// A connection keeps its plans, even if they were made when the table had one row.
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
    let turn = async |ends: Vec<RunRef>, most: usize| {
        let well = |run: RunRef| Finish::new(run, FinishKind::Success { result: "null".into() });
        let names: Arc<[Arc<str>]> = Arc::from(["double".into()]);
        let claim = Claim::new(me.id, DEADLINE, names, vec![("default".into(), most)], most);
        let ends = Arc::new(ends.into_iter().map(well).collect());
        let (_, claims) = store.turn(ends, claim).await.unwrap();
        let runs: Vec<RunRef> = claims.tasks.iter().map(|task| task.run).collect();
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
    // The server reports its reads about a second later, at the end of another statement.
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
