//! Every skipped tick of a schedule is counted.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/log.rs"]
mod log;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everywhere::everywhere;
use log::Log;
use support::eventually;
use taskflow::InstanceInfo;
use taskflow::store::Fire;
use taskflow::testing::{Fault, Op, TestTasks};

#[taskflow::schedule(every = "100ms")]
async fn often() {}

#[taskflow::schedule(every = "1h", missed = "skip")]
async fn skipping() {}

#[tokio::test]
async fn every_tick_runs_while_the_store_stands_still_for_three_seconds() {
    let t = TestTasks::new().only(["often"]).live().starts_at("2026-01-01T00:00:00Z").start().await;
    t.second_worker().await;
    t.advance("1s").await;
    t.fault(Fault::delay(Op::Fire, "3s").always());
    t.advance("3s").await;
    t.back();
    t.advance("6s").await;
    let ticks: BTreeSet<_> = t.records().iter().filter_map(|tick| tick.scheduled_for).collect();
    let begin = *ticks.first().unwrap();
    assert!(begin <= t.now() - Duration::from_millis(9_800), "it began before the store stood still");
    let all = (0..).map(|tick| begin + Duration::from_millis(100 * tick)).take_while(|at| *at <= t.now());
    assert_eq!(ticks, all.collect(), "none is left out");
    assert_eq!(t.records().len(), ticks.len(), "and none ran twice");
    let shown = t.manager().schedules().await.unwrap().into_iter().find(|it| it.name == "often").unwrap();
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
            // 7 ticks are missed, but 6 if the newest is now, and 8 if an hour has begun since.
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
