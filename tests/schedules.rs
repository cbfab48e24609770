//! Schedules: each tick happens once over all processes, on one grid, and what was missed is made up for as asked.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::eventually;
use taskflow::store::Fire;
use taskflow::{MemoryStore, Store, TaskFilter, TaskManager, TaskRecord, TaskSource, TaskStatus};

#[taskflow::schedule(every = "200ms")]
async fn beat() {}

#[taskflow::schedule(every = "1h", missed = "one")]
async fn missed_one() {}

#[taskflow::schedule(every = "1h", missed = "all")]
async fn missed_all() {}

#[taskflow::schedule(every = "1h", missed = "skip")]
async fn missed_skipped() {}

#[taskflow::schedule(cron = "0 0 1 1 *", timezone = "Europe/Berlin", run_on_startup)]
async fn yearly() {}

#[taskflow::schedule(every = "100ms", overlap = "skip")]
async fn slow() {
    std::future::pending().await
}

async fn start(store: &MemoryStore, only: &str) -> TaskManager {
    TaskManager::builder().store(store.clone()).only([only]).start().await.unwrap()
}

async fn records(tasks: &TaskManager) -> Vec<TaskRecord> {
    tasks.list(TaskFilter::new().limit(1000)).await.unwrap().items
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_fire_each_tick_once_and_leave_none_out() {
    let store = MemoryStore::new();
    let managers = [start(&store, "beat").await, start(&store, "beat").await, start(&store, "beat").await];
    eventually("what the schedule should do", || async {
        (records(&managers[0]).await.len() >= 8).then_some(())
    })
    .await;
    let ticks: Vec<u128> = records(&managers[0])
        .await
        .iter()
        .map(|task| {
            assert_eq!(task.source, TaskSource::Schedule);
            task.scheduled_for.unwrap().duration_since(UNIX_EPOCH).unwrap().as_micros()
        })
        .collect();
    let different: BTreeSet<u128> = ticks.iter().copied().collect();
    assert_eq!(different.len(), ticks.len(), "a tick fired twice");
    let (first, last) = (*different.first().unwrap(), *different.last().unwrap());
    let grid: BTreeSet<u128> = (first..=last).step_by(200_000).collect();
    assert_eq!(different, grid, "a tick was left out, or is not on the grid");
    assert_eq!(first % 200_000, 0);
    let shown = managers[1].schedules().await.unwrap();
    let beat = shown.iter().find(|schedule| schedule.name == "beat").unwrap();
    assert_eq!(beat.trigger.as_deref(), Some("every 200ms"));
    assert!(beat.last_run.is_some() && beat.next_run.unwrap() > beat.last_run.unwrap());
}

/// Starts after three and a half hours without any process, and gives the ticks that were made up for.
async fn after_an_absence(name: &str, expected: usize) {
    const HOUR: u64 = 3600;
    let store = MemoryStore::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let newest = now / HOUR * HOUR;
    let last = UNIX_EPOCH + Duration::from_secs(newest - 3 * HOUR);
    store.fire(Fire::new(name.to_owned(), last, None)).await.unwrap();
    let tasks = start(&store, name).await;
    let newest_tick = UNIX_EPOCH + Duration::from_secs(newest);
    let dealt_with =
        || async { (store.schedules().await.unwrap()[0].last_tick == newest_tick).then_some(()) };
    eventually("the missed ticks are dealt with", dealt_with).await;
    let mut ticks: Vec<_> = records(&tasks).await.iter().map(|task| task.scheduled_for.unwrap()).collect();
    ticks.sort();
    let missed: Vec<_> =
        (0..3).rev().map(|hours| UNIX_EPOCH + Duration::from_secs(newest - hours * HOUR)).collect();
    assert_eq!(ticks, missed[3 - expected..]);
}

#[tokio::test]
async fn of_missed_ticks_the_last_is_made_up_for() {
    after_an_absence("missed_one", 1).await;
}

#[tokio::test]
async fn missed_ticks_are_all_made_up_for_where_that_is_asked() {
    after_an_absence("missed_all", 3).await;
}

#[tokio::test]
async fn missed_ticks_are_forgotten_where_that_is_asked() {
    after_an_absence("missed_skipped", 0).await;
}

#[tokio::test]
async fn the_first_process_runs_it_on_startup_and_later_ones_do_not() {
    let store = MemoryStore::new();
    let first = start(&store, "yearly").await;
    eventually("what the schedule should do", || async {
        (first.counts().await.unwrap().success == 1).then_some(())
    })
    .await;
    let second = start(&store, "yearly").await;
    // It has looked around once it has looked for the last tick, which comes after.
    let handle = second.add(yearly()).await.unwrap();
    handle.wait().await.unwrap();
    assert_eq!(second.counts().await.unwrap().success, 2, "one on startup, one by hand");
    let shown = first.schedules().await.unwrap();
    let yearly = shown.iter().find(|schedule| schedule.name == "yearly").unwrap();
    assert_eq!(yearly.trigger.as_deref(), Some("0 0 1 1 *"));
    assert_eq!(yearly.timezone.as_deref(), Some("Europe/Berlin"));
}

#[tokio::test]
async fn a_tick_is_left_out_while_an_earlier_run_is_under_way() {
    let store = MemoryStore::new();
    let tasks = start(&store, "slow").await;
    eventually("what the schedule should do", || async {
        (tasks.counts().await.unwrap().running == 1).then_some(())
    })
    .await;
    let begin = store.schedules().await.unwrap()[0].last_tick;
    let later = begin + Duration::from_millis(500);
    eventually("what the schedule should do", || async {
        (store.schedules().await.unwrap()[0].last_tick > later).then_some(())
    })
    .await;
    assert_eq!(records(&tasks).await.len(), 1);
    tasks.cancel_all(TaskFilter::all()).await.unwrap();
    eventually("what the schedule should do", || async { (records(&tasks).await.len() == 2).then_some(()) })
        .await;
    assert_eq!(records(&tasks).await[1].status, TaskStatus::Cancelled);
}

#[tokio::test]
async fn a_process_can_leave_the_ticks_to_others() {
    let store = Arc::new(MemoryStore::new());
    let quiet =
        TaskManager::builder().store((*store).clone()).only(["beat"]).schedules(false).start().await.unwrap();
    let ticking = start(&store, "beat").await;
    eventually("what the schedule should do", || async {
        (!records(&ticking).await.is_empty()).then_some(())
    })
    .await;
    ticking.shutdown(Duration::ZERO).await.unwrap();
    let last = store.schedules().await.unwrap();
    // Something else that takes three ticks of time.
    quiet.add(beat()).run_in(Duration::from_millis(600)).await.unwrap().wait().await.unwrap();
    assert_eq!(store.schedules().await.unwrap(), last);
}
