//! Claims from many queues in one PostgreSQL store: empty queues cost nothing, and few rows are locked.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::time::Duration;

use servers::postgres::PostgresServer;
use taskflow::sqlx::{self, Connection, PgConnection};
use taskflow::store::{
    Claim, Claimed, Finish, FinishKind, Finished, InsertBatch, InsertGroup, InsertTask, Start, Store,
};
use taskflow::{InstanceInfo, NewTask, PostgresStore, TaskStatus};

const QUEUES: usize = 2_000;
const CLAIMS: usize = 20;
const LEASE: Duration = Duration::from_secs(60);

fn name(queue: usize) -> String {
    format!("queue-{queue:05}")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_queues_a_claim_looks_only_into_those_with_due_tasks() {
    let Some(server) = PostgresServer::start() else { return };
    let store = PostgresStore::open(format!("{}?connections=1", server.url())).unwrap();
    let me = InstanceInfo::of_this_process(true);
    store.join(&me).await.unwrap();
    let busy = [3, 77, QUEUES - 1];
    let scans = || -> i64 {
        // A session publishes its counts at its end at the latest.
        let sum = "SELECT 0, coalesce(sum(idx_scan), 0) FROM pg_stat_all_indexes
                   WHERE relname IN ('taskflow_tasks', 'taskflow_queues')";
        server.query(sum).rsplit('|').next().unwrap().parse().unwrap()
    };
    let names: Arc<[Arc<str>]> = Arc::from(["double".into()]);
    let asked: Vec<(Arc<str>, usize)> = (0..QUEUES).map(|queue| (name(queue).into(), 8)).collect();
    let mut claimed = 0;
    for _ in 0..CLAIMS {
        let tasks = busy.iter().map(|queue| {
            let mut new = NewTask::new("double", Ok(Arc::from(r#"{"number":1}"#)));
            new.queue = name(*queue).into();
            InsertTask::new(new, Start::Wait)
        });
        let batch = InsertBatch::new(me.id, LEASE, vec![InsertGroup::new(tasks.collect())]);
        store.insert(Arc::new(batch)).await.unwrap();
        let claims = store.claim(Claim::new(me.id, LEASE, names.clone(), asked.clone(), 8)).await.unwrap();
        claimed += claims.tasks.len();
    }
    assert_eq!(claimed, CLAIMS * busy.len());
    drop(store);
    // A session has published everything when it has ended.
    servers::wait_until("the store's sessions to end", || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        server.query(open) == "0"
    });
    let scans = scans();
    assert!(scans > 0);
    let limit = i64::try_from(CLAIMS * 100).unwrap();
    assert!(scans < limit, "{scans} scans of indexes for {CLAIMS} claims from {QUEUES} queues");
}

/// Adds that many tasks to each queue, one queue after the other in each round.
async fn add(store: &PostgresStore, me: &InstanceInfo, queues: &[&str], each: usize) {
    let tasks = (0..each).flat_map(|_| queues).map(|queue| {
        let mut new = NewTask::new("double", Ok(Arc::from(r#"{"number":1}"#)));
        new.queue = (*queue).to_owned().into();
        InsertTask::new(new, Start::Wait)
    });
    let batch = InsertBatch::new(me.id, LEASE, vec![InsertGroup::new(tasks.collect())]);
    store.insert(Arc::new(batch)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_from_several_queues_locks_what_it_takes_and_one_more_of_each() {
    let Some(server) = PostgresServer::start() else { return };
    let store = PostgresStore::open(server.url()).unwrap();
    let me = InstanceInfo::of_this_process(true);
    store.join(&me).await.unwrap();
    let queues = ["a", "b", "c", "d", "e"];
    add(&store, &me, &queues, 50).await;
    let names: Arc<[Arc<str>]> = Arc::from(["double".into()]);
    let asked = queues.iter().map(|queue| (Arc::from(*queue), 40)).collect();
    let tasks = store.claim(Claim::new(me.id, LEASE, names, asked, 40)).await.unwrap().tasks;
    assert_eq!(tasks.len(), 40);
    // A lock stays visible in its row.
    let locked = server.query("SELECT count(*) FROM taskflow_tasks WHERE state = 0 AND xmax::text <> '0'");
    let locked: usize = locked.parse().unwrap();
    assert!(locked <= queues.len(), "{locked} rows were locked and not taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_beside_locked_tasks_takes_others_and_asks_again_soon() {
    let Some(server) = PostgresServer::start() else { return };
    let store = PostgresStore::open(server.url()).unwrap();
    let me = InstanceInfo::of_this_process(true);
    store.join(&me).await.unwrap();
    // The tasks of `a` come first.
    add(&store, &me, &["a"], 10).await;
    add(&store, &me, &["b"], 10).await;
    let mut somebody = PgConnection::connect(&server.url()).await.unwrap();
    let mut transaction = somebody.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM taskflow_tasks WHERE queue = 'a' FOR UPDATE")
        .fetch_all(&mut *transaction)
        .await
        .unwrap();
    let names: Arc<[Arc<str>]> = Arc::from(["double".into()]);
    let claim = || {
        let asked = ["a", "b"].map(|queue| (Arc::from(queue), 10)).into();
        store.claim(Claim::new(me.id, LEASE, names.clone(), asked, 10))
    };
    for _ in 0..3 {
        let claims = claim().await.unwrap();
        assert!(!claims.tasks.is_empty());
        assert!(claims.tasks.iter().all(|task| &*task.queue == "b"));
        assert!(claims.next_due.is_some_and(|due| due <= Duration::from_millis(10)), "{:?}", claims.next_due);
    }
    transaction.rollback().await.unwrap();
    let claims = claim().await.unwrap();
    assert!(claims.tasks.iter().all(|task| &*task.queue == "a"));
    assert_eq!(claims.tasks.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_does_not_pass_over_all_that_others_have_locked_unless_it_stays_locked() {
    let Some(server) = PostgresServer::start() else { return };
    let store = PostgresStore::open(server.url()).unwrap();
    let me = InstanceInfo::of_this_process(true);
    store.join(&me).await.unwrap();
    add(&store, &me, &["a"], 100).await;
    let lock = async |connection: &mut PgConnection| {
        let first = "SELECT 1 FROM taskflow_tasks ORDER BY seq LIMIT 75 FOR UPDATE";
        sqlx::raw_sql("BEGIN").execute(&mut *connection).await.unwrap();
        assert_eq!(sqlx::query(first).fetch_all(connection).await.unwrap().len(), 75);
    };
    let mut somebody = PgConnection::connect(&server.url()).await.unwrap();
    let names: Arc<[Arc<str>]> = Arc::from(["double".into()]);
    let claim = async |limit| {
        store.claim(Claim::new(me.id, LEASE, names.clone(), vec![("a".into(), limit)], limit)).await.unwrap()
    };

    lock(&mut somebody).await;
    // The first claim looks at 40 tasks, the next one at 80.
    let nothing = claim(10).await;
    assert_eq!(nothing.tasks.len(), 0);
    assert!(nothing.next_due.is_some_and(|due| due <= Duration::from_millis(10)), "{:?}", nothing.next_due);
    let some = claim(10).await.tasks;
    assert_eq!(some.len(), 5);
    // A turn ends runs all the same, in a statement of its own.
    let success = |task: &Claimed| Finish::new(task.run, FinishKind::Success { result: "null".into() });
    let asked = Claim::new(me.id, LEASE, names.clone(), vec![("a".into(), 10)], 10);
    let turn = store.turn(Arc::new(some.iter().map(success).collect()), asked).await.unwrap();
    assert!(turn.0.iter().all(|end| *end == Finished::Applied(TaskStatus::Success)), "{:?}", turn.0);
    assert_eq!(turn.1.tasks.len(), 0, "it looks at 40 again");
    let all_left = claim(30).await;
    assert_eq!(all_left.tasks.len(), 20);
    // Another connection has locked the rest, but may not take it. So the claim asks again soon.
    assert!(all_left.next_due.is_some_and(|due| due <= Duration::from_millis(10)), "{:?}", all_left.next_due);
    sqlx::raw_sql("ROLLBACK").execute(&mut somebody).await.unwrap();
    let rest = claim(100).await;
    assert_eq!((rest.tasks.len(), rest.next_due), (75, None));
}
