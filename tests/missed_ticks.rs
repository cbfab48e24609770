//! No tick of a schedule is left out in silence.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/log.rs"]
mod log;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/watched.rs"]
mod watched;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everywhere::everywhere;
use log::Log;
use support::eventually;
use taskflow::store::Fire;
use taskflow::{InstanceInfo, MemoryStore, TaskFilter, TaskManager};
use watched::Watched;

#[taskflow::schedule(every = "100ms")]
async fn often() {}

#[taskflow::schedule(every = "1h", missed = "skip")]
async fn skipping() {}

#[tokio::test(flavor = "multi_thread")]
async fn every_tick_runs_while_the_store_stands_still_for_three_seconds() {
    let watched = Watched::new(MemoryStore::new());
    let start = || async {
        TaskManager::builder().store(watched.store.clone()).only(["often"]).start().await.unwrap()
    };
    let tasks = [start().await, start().await];
    let ticks = async || -> BTreeSet<u128> {
        let all = tasks[0].list(TaskFilter::new().limit(1000)).await.unwrap().items;
        let micros = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_micros();
        all.iter().map(|task| micros(task.scheduled_for.unwrap())).collect()
    };
    eventually("it ticks", || async { (ticks().await.len() >= 5).then_some(()) }).await;
    let began = SystemTime::now();
    watched.keep_ticks_waiting(Duration::from_secs(3)).await;
    let after = SystemTime::now() + Duration::from_millis(500);
    let micros = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_micros();
    eventually("it goes on", || async {
        ticks().await.last().is_some_and(|last| *last > micros(after)).then_some(())
    })
    .await;
    let ticks = ticks().await;
    let (first, last) = (*ticks.first().unwrap(), *ticks.last().unwrap());
    assert!(first < micros(began));
    let grid: BTreeSet<u128> = (first..=last).step_by(100_000).collect();
    let left_out: Vec<_> = grid.difference(&ticks).collect();
    assert!(left_out.is_empty(), "{} of {} are left out", left_out.len(), grid.len());
    let shown = tasks[0].schedules().await.unwrap().into_iter().find(|it| it.name == "often").unwrap();
    assert_eq!((shown.skipped, shown.last_skipped), (0, None));
}

#[test]
fn ticks_that_are_left_out_are_counted_shown_and_logged() {
    let said = Log::default();
    let writer = said.clone();
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    tracing::subscriber::set_global_default(log).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for place in everywhere() {
            let store = place.store();
            let me = InstanceInfo::of_this_process(false);
            store.join(&me).await.unwrap();
            let hour = Duration::from_secs(3600);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let newest = UNIX_EPOCH + Duration::from_secs(now / 3600 * 3600);
            store.fire(Fire::new("skipping".to_owned(), newest - 7 * hour, None)).await.unwrap();
            let managers = [
                place.builder().only(["skipping"]).start().await.unwrap(),
                place.builder().only(["skipping"]).start().await.unwrap(),
            ];
            let shown = eventually("they are counted", || async {
                let all = managers[0].schedules().await.unwrap();
                all.into_iter().find(|it| it.name == "skipping" && it.skipped > 0)
            })
            .await;
            // At the very hour one of them is not missed.
            assert!((6..=8).contains(&shown.skipped), "{place:?}: {shown:?}");
            assert!(shown.last_skipped >= Some(newest), "{place:?}: {shown:?}");
            for tasks in managers {
                tasks.shutdown(Duration::from_secs(5)).await.unwrap();
            }
            let log = said.take();
            let lines = log.lines().filter(|line| line.contains("are skipped"));
            assert_eq!(lines.count(), 1, "{place:?}: once, and by one process: {log}");
            store.leave(me.id).await.unwrap();
        }
    });
}
