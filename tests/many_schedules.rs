//! Thousands of schedules that were added at run time cost next to nothing while none is due, and delay nothing else.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/watched.rs"]
mod watched;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use everywhere::everywhere;
use futures_util::StreamExt;
use support::{Place, eventually, soon};
use taskflow::sqlx::{self, Connection, PgConnection};
use taskflow::store::ScheduleChange;
use taskflow::{Cron, Every, InstanceInfo, MemoryStore, Store, TaskManager, task::Timing};
use watched::Watched;

/// The longest a start or an add may take on a loaded machine in a debug build; on an idle one they take milliseconds.
const PATIENCE: Duration = Duration::from_secs(4);

/// The task of the schedules.
#[taskflow::task]
async fn clean(folder: String) {
    let _ = folder;
}

/// The task that is added beside them.
#[taskflow::task]
async fn plain() {}

/// The definition of a schedule, as the library stores it.
async fn definition(timing: impl Into<Timing>) -> String {
    let store = MemoryStore::new();
    let tasks = TaskManager::builder().store(store.clone()).connect().await.unwrap();
    tasks.schedule(clean("uploads".to_owned()), timing).await.unwrap();
    store.schedule("clean".to_owned()).await.unwrap().unwrap().definition.unwrap()
}

/// Stores that many schedules which tick on a leap day.
async fn define(store: &Arc<dyn Store>, count: usize) {
    define_as(store, Cron::parse("0 0 29 2 *").unwrap(), count).await;
}

async fn define_as(store: &Arc<dyn Store>, timing: impl Into<Timing>, count: usize) {
    let definition = definition(timing).await;
    let defining = futures_util::stream::iter(0..count).for_each_concurrent(8, |n| {
        let change = ScheduleChange::Defined { definition: definition.clone(), from: SystemTime::now() };
        let store = store.clone();
        async move {
            store.set_schedule(format!("clean-{n:05}"), change).await.unwrap();
        }
    });
    defining.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_none_is_due_a_process_asks_once_a_second_what_changed_and_nothing_else() {
    let watched = Watched::new(MemoryStore::new());
    let shared: Arc<dyn Store> = Arc::new(watched.store.clone());
    define(&shared, 3000).await;
    let tasks = TaskManager::builder().store(watched.store.clone()).only(["plain"]).start().await.unwrap();
    // Schedules arrive in the order in which they were added: when this later one ticks, the process knows all of them.
    let last = ScheduleChange::Defined {
        definition: definition(Every::new(Duration::from_millis(100)).unwrap()).await,
        from: SystemTime::now(),
    };
    shared.set_schedule("last".to_owned(), last).await.unwrap();
    eventually("it ticks", || async {
        shared.schedule("last".to_owned()).await.unwrap().unwrap().last_outcome
    })
    .await;
    shared.set_schedule("last".to_owned(), ScheduleChange::Removed).await.unwrap();
    eventually("it is silent", || async {
        watched.take_calls();
        tokio::time::sleep(Duration::from_millis(300)).await;
        (!watched.take_calls().contains_key("fire")).then_some(())
    })
    .await;
    let began = Instant::now();
    watched.take_calls();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let calls = watched.take_calls();
    let seconds = began.elapsed().as_secs() + 1;
    let asked = calls.get("schedule_changes").copied().unwrap_or_default();
    assert!((1..=seconds).contains(&asked), "{asked} times in {seconds} s");
    for other in ["schedules", "schedule", "set_schedule", "fire", "instances"] {
        assert_eq!(calls.get(other), None, "{other}: {calls:?}");
    }
    tasks.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// Like [`define`], by one statement: PostgreSQL would need a minute to define them one by one.
async fn define_by_sql(url: &str, store: &Arc<dyn Store>, count: usize) {
    define(store, 1).await;
    let (server, namespace) = url.split_once("?namespace=").unwrap();
    let copies = format!(
        "INSERT INTO taskflow_{namespace}_schedules (name, last_tick, definition)
         SELECT 'copy-' || n, last_tick, definition
         FROM taskflow_{namespace}_schedules, generate_series(2, {count}) n WHERE name = 'clean-00000';
         INSERT INTO taskflow_{namespace}_schedule_log (version, name, removed)
         SELECT n, 'copy-' || n, false FROM generate_series(2, {count}) n"
    );
    let mut connection = PgConnection::connect(server).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(copies)).execute(&mut connection).await.unwrap();
}

/// Starts a process that finds that many schedules, and adds a task meanwhile.
async fn start_beside_many(place: Place, count: usize) {
    let adds = place.builder().connect().await.unwrap();
    let store = place.store();
    store.join(&InstanceInfo::of_this_process(false)).await.unwrap();
    match &place {
        Place::Server(url) if url.starts_with("postgres:") => define_by_sql(url, &store, count).await,
        _ => define(&store, count).await,
    }
    let began = Instant::now();
    let tasks = place.builder().start().await.unwrap();
    let started = began.elapsed();
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let began = Instant::now();
        soon(soon(adds.add(plain())).await.unwrap().wait()).await.unwrap();
        slowest = slowest.max(began.elapsed());
    }
    eprintln!(
        "{place:?}: {count} schedules: started in {started:?}, the slowest add and wait took {slowest:?}"
    );
    assert!(started < PATIENCE && slowest < PATIENCE, "{place:?}: {started:?}, {slowest:?}");
    // The process learns of one more schedule, so it knows all of them.
    let often = Every::new(Duration::from_millis(100)).unwrap();
    tasks.schedule(clean("last".to_owned()), often).named("last").await.unwrap();
    eventually("it ticks", || async {
        store.schedule("last".to_owned()).await.unwrap().unwrap().last_outcome
    })
    .await;
    assert_eq!(store.schedules().await.unwrap().len(), count + 1);
    assert_eq!(tasks.health().store_errors, 0);
    tasks.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_schedules_keep_no_start_and_no_add_waiting_on_sqlite() {
    start_beside_many(Place::sqlite(), 10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_schedules_keep_no_start_and_no_add_waiting_on_postgresql() {
    let Some(url) = servers::postgres::shared_url() else { return };
    start_beside_many(Place::Server(url), 10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_schedules_keep_no_start_and_no_add_waiting_on_redis() {
    let Some(url) = servers::redis::shared_url() else { return };
    // As many as Redis can define within seconds: it writes each of them to its disk.
    start_beside_many(Place::Server(url), 3000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_schedules_that_tick_at_once_all_tick_and_an_add_beside_them_does_not_wait() {
    for place in everywhere() {
        let tasks = place.builder().start().await.unwrap();
        let store = place.store();
        let me = InstanceInfo::of_this_process(false);
        store.join(&me).await.unwrap();
        define_as(&store, Every::new(Duration::from_secs(3)).unwrap(), 300).await;
        eventually("each has ticked", || async {
            let began = Instant::now();
            soon(soon(tasks.add(plain())).await.unwrap().wait()).await.unwrap();
            assert!(began.elapsed() < PATIENCE, "{place:?}: {:?}", began.elapsed());
            let states = store.schedules().await.unwrap();
            states.iter().all(|state| state.last_task.is_some()).then_some(())
        })
        .await;
        let states = store.schedules().await.unwrap();
        assert_eq!(states.iter().map(|state| state.skipped).sum::<u64>(), 0, "{place:?}");
        tasks.shutdown(Duration::from_secs(10)).await.unwrap();
        store.leave(me.id).await.unwrap();
    }
}
