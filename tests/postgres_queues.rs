//! Many queues in one PostgreSQL store: empty queues cost a claim nothing.

#[path = "support/servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::time::Duration;

use servers::postgres::PostgresServer;
use taskflow::store::{Claim, InsertBatch, InsertGroup, InsertTask, Start, Store};
use taskflow::{InstanceInfo, NewTask, PostgresStore};

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
