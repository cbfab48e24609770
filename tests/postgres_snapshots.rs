//! PostgreSQL beside a transaction that keeps an old snapshot: while it is open, nothing is vacuumed. Claims do not slow down,
//! because each one searches only from its *start*: below it, earlier claims found no more tasks. About once a second, a *look*
//! searches below the starts, so no task is missed.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/postgres_rows.rs"]
mod postgres_rows;
#[path = "support/servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use postgres_rows::{DEADLINE, connect, process, soon, split};
use servers::postgres::shared_url;
use taskflow::model::When;
use taskflow::sqlx::{self, AssertSqlSafe, Connection, PgConnection, Row};
use taskflow::store::{
    Claim, Finish, FinishKind, HoldOutcome, InsertBatch, InsertGroup, InsertTask, Inserted, InsertedAs,
    Release, Reopen, Retention, RunRef, Start, Store,
};
use taskflow::{AttemptOutcome, InstanceInfo, NewTask, PostgresStore, TaskId, TaskStatus};

/// Longer than the 100 ms after which claims may start where an earlier one found no more tasks.
const MARGIN: Duration = Duration::from_millis(150);

/// How many tasks have been due before. The server needs milliseconds to step over the index entries that they left.
const WORN: usize = 60_000;

/// A process and its claims.
struct Shop {
    url: String,
    store: PostgresStore,
    me: InstanceInfo,
    names: Arc<[Arc<str>]>,
}

impl Shop {
    async fn open() -> Option<Self> {
        let url = shared_url()?;
        let (store, me) = (PostgresStore::open(&url).unwrap(), process());
        store.join(&me).await.unwrap();
        Some(Self { url, store, me, names: Arc::from(["double".into()]) })
    }

    /// A store in which many tasks have been due and no longer are, beside a transaction that keeps an old snapshot: claims
    /// use their starts.
    async fn open_worn() -> Option<(Self, PgConnection)> {
        let shop = Self::open().await?;
        let mut somebody = connect(&shop.url).await;
        run(&mut somebody, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1".to_owned()).await;
        let table = shop.table("tasks");
        let many = format!(
            "INSERT INTO {table} (id, name) SELECT gen_random_uuid(), 'double' FROM generate_series(1, {WORN});
             UPDATE {table} SET state = 4, finished_at = now()"
        );
        run(&mut connect(&shop.url).await, many).await;
        shop.move_on().await;
        shop.store.recover(shop.me.id).await.unwrap();
        Some((shop, somebody))
    }

    async fn add(&self, new: NewTask, start: Start) -> (TaskId, Inserted) {
        let id = new.id;
        let group = InsertGroup::new(vec![InsertTask::new(new, start)]);
        let batch = InsertBatch::new(self.me.id, DEADLINE, vec![group]);
        let answer = self.store.insert(Arc::new(batch)).await.unwrap().remove(0).unwrap().remove(0);
        (id, answer)
    }

    async fn add_waiting(&self) -> TaskId {
        self.add(new_task(), Start::Wait).await.0
    }

    async fn claim(&self, limit: usize) -> Vec<RunRef> {
        let queues = vec![("default".into(), limit)];
        let claim = Claim::new(self.me.id, DEADLINE, self.names.clone(), queues, limit);
        self.store.claim(claim).await.unwrap().tasks.iter().map(|task| task.run).collect()
    }

    async fn claim_one(&self) -> Option<TaskId> {
        self.claim(1).await.first().map(|run| run.id)
    }

    /// Waits for the task that the next look finds.
    async fn found_by_a_look(&self) -> TaskId {
        soon(async {
            loop {
                self.store.recover(self.me.id).await.unwrap();
                if let Some(id) = self.claim_one().await {
                    break id;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    async fn finish(&self, run: RunRef, kind: FinishKind) {
        self.store.finish(Arc::new(vec![Finish::new(run, kind)])).await.unwrap();
    }

    /// Lets claims start after all tasks that have been added until now.
    async fn move_on(&self) {
        for _ in 0..3 {
            let id = self.add_waiting().await;
            assert_eq!(self.claim_one().await, Some(id));
            tokio::time::sleep(MARGIN).await;
        }
    }

    fn table(&self, name: &str) -> String {
        format!("taskflow_{}_{name}", split(&self.url).1)
    }

    /// How many entries of an index were read, once it has been searched at least `searches` times.
    async fn read_by(&self, index: &str, searches: usize) -> usize {
        let mut reader = connect(&self.url).await;
        let searches = i64::try_from(searches).unwrap();
        soon(async {
            loop {
                // The server adds up the counts of a connection while the connection is idle.
                match self.reads(index, &mut reader).await {
                    (scans, read) if scans >= searches => break usize::try_from(read).unwrap(),
                    _ => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        })
        .await
    }

    /// How often an index was searched, and how many of its entries were read.
    async fn reads(&self, index: &str, reader: &mut PgConnection) -> (i64, i64) {
        let query = "SELECT coalesce(idx_scan, 0), coalesce(idx_tup_read, 0) FROM pg_stat_user_indexes
            WHERE indexrelname = $1";
        let row = sqlx::query(query).bind(self.table(index)).fetch_one(reader).await.unwrap();
        (row.get(0), row.get(1))
    }
}

fn new_task() -> NewTask {
    let mut new = NewTask::new("double", Ok(Arc::from(r#"{"number":21}"#)));
    (new.policy.to_mut().retries, new.policy.to_mut().requeue_on_interrupt) = (3, true);
    new
}

async fn run(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

/// Without the starts each of the later claims reads the entries of all tasks before it.
#[tokio::test(flavor = "multi_thread")]
async fn claims_beside_an_old_snapshot_do_not_read_what_was_claimed_before() {
    const CLAIMS: usize = 40;
    let Some((shop, mut somebody)) = Shop::open_worn().await else { return };
    for _ in 0..CLAIMS {
        let id = shop.add_waiting().await;
        assert_eq!(shop.claim_one().await, Some(id));
        // Such an add also searches for due tasks.
        let (_, answer) = shop.add(new_task(), Start::LeaseIfIdle).await;
        assert!(matches!(answer.kind, InsertedAs::Leased { .. }), "{answer:?}");
    }
    // Only the searches before the starts were known read `WORN` entries each. Without starts, all 80 would.
    let read = shop.read_by("tasks_ready", 2 * CLAIMS).await;
    assert!(read < 10 * WORN, "{read} entries were read for {CLAIMS} claims and as many adds");
    run(&mut somebody, "COMMIT".to_owned()).await;
}

/// Without a start, each batch would read the entries of all tasks that were deleted before.
#[tokio::test(flavor = "multi_thread")]
async fn old_tasks_are_deleted_beside_an_old_snapshot_without_reading_them_again() {
    const OLD: usize = 20_000;
    const BATCH: usize = 500;
    let Some(shop) = Shop::open().await else { return };
    let mut somebody = connect(&shop.url).await;
    run(&mut somebody, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1".to_owned()).await;
    let old = format!(
        "INSERT INTO {} (id, name, state, finished_at)
         SELECT gen_random_uuid(), 'double', 4 + n % 2, now() - interval '1 day' + n * interval '1 ms'
         FROM generate_series(1, {OLD}) AS n",
        shop.table("tasks")
    );
    run(&mut connect(&shop.url).await, old).await;
    let mut batches = 1;
    while shop.store.prune(Retention::new(DEADLINE), BATCH).await.unwrap() == BATCH {
        batches += 1;
    }
    let outlines = shop.store.list_outlines(taskflow::TaskFilter::new()).await.unwrap();
    assert!(outlines.items.is_empty(), "{outlines:?}");
    let read = shop.read_by("tasks_moment", batches).await;
    assert!(read < 5 * OLD, "{read} entries were read to delete {OLD} tasks");
    run(&mut somebody, "COMMIT".to_owned()).await;
}

/// A task below the start must not make claims search from the beginning. A task with an unknown name stays there.
#[tokio::test(flavor = "multi_thread")]
async fn claims_find_tasks_below_a_start_by_their_ids() {
    const CLAIMS: usize = 40;
    let Some((shop, _snapshot)) = Shop::open_worn().await else { return };
    let mut unknown = new_task();
    unknown.name = "unknown".into();
    let (unknown, _) = shop.add(unknown, Start::Lease).await;
    shop.move_on().await;
    let back = FinishKind::GiveBack { delay: Duration::ZERO, outcome: None };
    shop.finish(RunRef::new(unknown, RunRef::FIRST_FENCE), back).await;
    let table = shop.table("tasks");
    run(&mut connect(&shop.url).await, format!("ANALYZE {table}")).await;
    for _ in 0..CLAIMS {
        let id = shop.add_waiting().await;
        assert_eq!(shop.claim_one().await, Some(id));
    }
    let read = shop.read_by("tasks_ready", 2 * CLAIMS).await;
    assert!(read < 10 * WORN, "{read} entries were read for {CLAIMS} claims");
}

/// Three tasks that the start has not passed yet are given back. A claim that takes only the first of them does not move the
/// start past the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_finds_an_older_task_than_the_one_before_hides_none_behind_it() {
    let Some((shop, _snapshot)) = Shop::open_worn().await else { return };
    let mut back = Vec::new();
    for _ in 0..3 {
        let (id, _) = shop.add(new_task(), Start::Lease).await;
        let kind = FinishKind::GiveBack { delay: Duration::ZERO, outcome: None };
        back.push(Finish::new(RunRef::new(id, RunRef::FIRST_FENCE), kind));
    }
    let ids: Vec<_> = back.iter().map(|finish| finish.run.id).collect();
    let younger = shop.add_waiting().await;
    assert_eq!(shop.claim_one().await, Some(younger));
    tokio::time::sleep(MARGIN).await;
    shop.store.finish(Arc::new(back)).await.unwrap();
    for id in ids {
        assert_eq!(shop.claim_one().await, Some(id));
    }
}

/// An add starts at once only if nothing is due. A task that this process gave back is due, though it is below the start.
#[tokio::test(flavor = "multi_thread")]
async fn an_add_does_not_start_before_a_task_that_waits_again_below_the_start() {
    let Some((shop, _snapshot)) = Shop::open_worn().await else { return };
    let (id, _) = shop.add(new_task(), Start::Lease).await;
    shop.move_on().await;
    let back = FinishKind::GiveBack { delay: Duration::ZERO, outcome: None };
    shop.finish(RunRef::new(id, RunRef::FIRST_FENCE), back).await;
    let (_, answer) = shop.add(new_task(), Start::LeaseIfIdle).await;
    assert!(matches!(answer.kind, InsertedAs::Pending), "{answer:?}");
    let mut keyed = new_task();
    keyed.idempotency_key = Some("one".to_owned());
    let (_, answer) = shop.add(keyed, Start::LeaseIfIdle).await;
    assert!(matches!(answer.kind, InsertedAs::Pending), "{answer:?}");
    assert_eq!(shop.claim_one().await, Some(id));
}

/// If anything in this process makes a task wait again, the next claim finds the task, although it is below the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_again_is_claimed_at_once() {
    let Some((shop, _snapshot)) = Shop::open_worn().await else { return };
    let leased = async || {
        let (id, answer) = shop.add(new_task(), Start::Lease).await;
        let InsertedAs::Leased { fence } = answer.kind else { panic!("{answer:?}") };
        RunRef::new(id, fence)
    };
    let back = FinishKind::GiveBack { delay: Duration::ZERO, outcome: None };
    let failed = |delay| FinishKind::Retry { delay, outcome: AttemptOutcome::Failed, error: "no".to_owned() };
    let (given_back, retried, ended, lost) = (leased().await, leased().await, leased().await, leased().await);
    let delayed = leased().await;
    let (held, answer) = shop.add(new_task(), Start::Hold).await;
    let InsertedAs::Held { fence } = answer.kind else { panic!("{answer:?}") };
    let mut later = new_task();
    later.when = When::In(Duration::from_millis(1));
    let (later, _) = shop.add(later, Start::Wait).await;
    let mut keyed = new_task();
    keyed.run_key = Some("nightly".to_owned());
    keyed.when = When::In(DEADLINE);
    let (replaced, _) = shop.add(keyed.clone(), Start::Wait).await;
    let later_run = shop.claim(1).await[0];
    assert_eq!(later_run.id, later, "it has come due");
    shop.move_on().await;

    shop.finish(given_back, back.clone()).await;
    assert_eq!(shop.claim_one().await, Some(given_back.id), "given back");
    shop.finish(retried, failed(Duration::ZERO)).await;
    assert_eq!(shop.claim_one().await, Some(retried.id), "retried");
    shop.finish(delayed, failed(Duration::from_millis(1))).await;
    let due = async {
        loop {
            if let Some(id) = shop.claim_one().await {
                break id;
            }
        }
    };
    assert_eq!(soon(due).await, delayed.id, "retried after a delay");
    let outcome = AttemptOutcome::Failed;
    shop.finish(ended, FinishKind::End { status: TaskStatus::Failed, outcome, error: "no".to_owned() }).await;
    shop.store.retry(Reopen::at_once([ended.id])).await.unwrap().remove(0).unwrap();
    assert_eq!(shop.claim_one().await, Some(ended.id), "retried by hand");
    let release = Release::new(RunRef::new(held, fence), HoldOutcome::Run);
    shop.store.release(Arc::new(vec![release])).await.unwrap();
    assert_eq!(shop.claim_one().await, Some(held), "released");
    keyed.id = TaskId::new();
    keyed.when = When::Now;
    let (_, answer) = shop.add(keyed, Start::Wait).await;
    assert!(matches!(answer.kind, InsertedAs::Replaced), "{answer:?}");
    assert_eq!(shop.claim_one().await, Some(replaced), "replaced by a younger add");
    shop.finish(later_run, back).await;
    assert_eq!(shop.claim_one().await, Some(later), "came due, and was given back");
    let mut somebody = connect(&shop.url).await;
    let table = shop.table("tasks");
    run(&mut somebody, format!("UPDATE {table} SET lease_until = now() WHERE id = '{}'", lost.id)).await;
    assert_eq!(shop.store.recover(shop.me.id).await.unwrap().len(), 1);
    assert_eq!(shop.claim_one().await, Some(lost.id), "recovered");
    assert_eq!(shop.claim_one().await, None);
}

/// The regular look finds the tasks that others make due below the start. A claim before the look finds none, as it has a start.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_make_due_below_the_start_is_found_by_the_next_look() {
    let Some((shop, _snapshot)) = Shop::open_worn().await else { return };
    let add = format!("SELECT {}('double', '{{\"number\":21}}', task_max_attempts => 2)", shop.table("add"));

    // An add whose transaction takes long.
    let mut somebody = connect(&shop.url).await;
    let mut slow = somebody.begin().await.unwrap();
    let late = sqlx::query(AssertSqlSafe(add)).fetch_one(&mut *slow).await.unwrap();
    let late = TaskId::from(late.get::<sqlx::types::Uuid, _>(0));
    shop.move_on().await;
    slow.commit().await.unwrap();
    assert_eq!(shop.claim_one().await, None);
    assert_eq!(shop.found_by_a_look().await, late);

    // A run that another process gives back.
    shop.add_waiting().await;
    let given_back = shop.claim(1).await[0];
    shop.move_on().await;
    let other = PostgresStore::open(&shop.url).unwrap();
    let back = FinishKind::GiveBack { delay: Duration::ZERO, outcome: None };
    other.finish(Arc::new(vec![Finish::new(given_back, back)])).await.unwrap();
    assert_eq!(shop.claim_one().await, None);
    assert_eq!(shop.found_by_a_look().await, given_back.id);
}

/// Without the hint, an idle worker would claim the task only at its next poll.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_finds_a_task_wakes_the_worker() {
    let Some((shop, _snapshot)) = Shop::open_worn().await else { return };
    let run_before = shop.add_waiting().await;
    assert_eq!(shop.claim_one().await, Some(run_before));
    shop.move_on().await;
    let (table, mut somebody) = (shop.table("tasks"), connect(&shop.url).await);
    let mut hints = shop.store.listen();
    soon(hints.next()).await.expect("the store listens now");
    // No process sends a hint about this.
    run(&mut somebody, format!("UPDATE {table} SET state = 0 WHERE id = '{run_before}'")).await;
    soon(async {
        loop {
            shop.store.recover(shop.me.id).await.unwrap();
            if tokio::time::timeout(Duration::from_millis(50), hints.next()).await.is_ok() {
                break;
            }
        }
    })
    .await;
    assert_eq!(shop.claim_one().await, Some(run_before));
}

/// To find tasks that have come due, a claim searches only the times after those in which earlier claims found none. This task
/// has an earlier time, and is committed later.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_with_a_delay_whose_transaction_takes_long_is_found_by_the_next_look() {
    let Some((shop, _snapshot)) = Shop::open_worn().await else { return };
    let add = format!(
        "SELECT {}('double', '{{\"number\":21}}', task_run_at => now() + interval '1 ms')",
        shop.table("add")
    );
    let mut somebody = connect(&shop.url).await;
    let mut slow = somebody.begin().await.unwrap();
    let late = sqlx::query(AssertSqlSafe(add)).fetch_one(&mut *slow).await.unwrap();
    let late = TaskId::from(late.get::<sqlx::types::Uuid, _>(0));
    // Claims see a task at once only if its transaction commits at most a second after the task is due.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(shop.claim_one().await, None);
    slow.commit().await.unwrap();
    assert_eq!(shop.claim_one().await, None);
    assert_eq!(shop.found_by_a_look().await, late);
}

/// Somebody writes the highest possible number into a row. Claims do not keep starting behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_a_damaged_row_gave_is_given_up() {
    let Some((shop, _snapshot)) = Shop::open_worn().await else { return };
    let mut somebody = connect(&shop.url).await;
    for _ in 0..2 {
        let id = shop.add_waiting().await;
        let table = shop.table("tasks");
        run(&mut somebody, format!("UPDATE {table} SET seq = {} WHERE id = '{id}'", i64::MAX)).await;
        assert_eq!(shop.claim_one().await, Some(id));
        tokio::time::sleep(MARGIN).await;
    }
    let first = shop.add_waiting().await;
    assert_eq!(shop.claim_one().await, None, "claims start at the last number");
    assert_eq!(shop.found_by_a_look().await, first);
    let second = shop.add_waiting().await;
    assert_eq!(shop.claim_one().await, Some(second), "and no longer");
}

/// If each transaction updated the same row of counts, readers would walk through one version of it for each transaction.
#[tokio::test(flavor = "multi_thread")]
async fn the_counts_use_another_row_every_half_second_and_stay_right() {
    let Some(shop) = Shop::open().await else { return };
    let mut reader = connect(&shop.url).await;
    let rows = format!("SELECT count(*) FROM {}", shop.table("counts"));
    let rows = async |reader: &mut PgConnection| {
        sqlx::query(AssertSqlSafe(rows.clone())).fetch_one(reader).await.unwrap().get::<i64, _>(0)
    };
    let mut added = 0;
    soon(async {
        while rows(&mut reader).await < 3 {
            shop.add_waiting().await;
            added += 1;
        }
    })
    .await;
    assert_eq!(shop.store.counts().await.unwrap().pending, added);
    shop.store.prune(Retention::new(DEADLINE), 500).await.unwrap();
    assert_eq!(rows(&mut reader).await, 1);
    assert_eq!(shop.store.counts().await.unwrap().pending, added);
}
