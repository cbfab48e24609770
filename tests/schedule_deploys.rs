//! A deploy changes a schedule: the new definition counts from the instant at which a process first declares it, and the
//! definition of the process that started last ticks.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/next_version.rs"]
mod next_version;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/watched.rs"]
mod watched;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::time::{Duration, SystemTime};

use everywhere::everywhere;
use next_version::NextVersion;
use support::{Place, eventually};
use taskflow::store::{Declaration, Fire, ScheduleChange};
use taskflow::{InstanceInfo, MemoryStore, Store, TaskFilter, TaskManager};
use watched::Watched;

#[taskflow::schedule(every = "200ms", name = "beat", priority = 1)]
async fn beat() {}

#[taskflow::schedule(cron = "0 0 29 2 *", missed = "all")]
async fn leap() {}

/// As the library writes it.
fn hourly() -> String {
    r#"{"rule":{"every":{"secs":3600,"nanos":0}},"timezone":null}"#.to_owned()
}

#[tokio::test]
async fn a_changed_definition_has_no_ticks_before_it_is_first_seen() {
    for place in everywhere() {
        let store = place.store();
        let me = InstanceInfo::of_this_process(false);
        store.join(&me).await.unwrap();
        let years_ago = SystemTime::now() - Duration::from_secs(9 * 365 * 24 * 3600);
        store.fire(Fire::new("leap".to_owned(), years_ago, None)).await.unwrap();
        let declaration = Declaration::new(hourly(), years_ago);
        let change = ScheduleChange::Declared { declaration, instead_of: None };
        store.set_schedule("leap".to_owned(), change).await.unwrap();
        let state = async || store.schedule("leap".to_owned()).await.unwrap().unwrap();
        assert!(state().await.last_tick < Some(years_ago + Duration::from_secs(1)));

        let tasks = place.builder().only(["leap"]).start().await.unwrap();
        let declared = eventually("it is declared anew", || async {
            state().await.declared.filter(|declared| declared.timing != hourly())
        })
        .await;
        assert!(declared.timing.contains("0 0 29 2 *"), "{declared:?}");
        let known = state().await;
        assert!(known.last_tick > Some(SystemTime::now() - Duration::from_secs(60)), "{place:?}: {known:?}");
        // Once a second process with the same definition has declared it too, it has checked the schedule.
        let second = place.builder().only(["leap"]).start().await.unwrap();
        eventually("the second has seen it", || async {
            (state().await.declared?.since > declared.since).then_some(())
        })
        .await;
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
        second.shutdown(Duration::from_secs(5)).await.unwrap();
        let known = state().await;
        assert_eq!((known.last_outcome, known.last_task, known.skipped), (None, None, 0), "{place:?}");
        store.leave(me.id).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_missed_under_the_same_definition_is_made_up_for() {
    for place in everywhere() {
        let store = place.store();
        let me = InstanceInfo::of_this_process(false);
        store.join(&me).await.unwrap();
        let years_ago = SystemTime::now() - Duration::from_secs(9 * 365 * 24 * 3600);
        store.fire(Fire::new("leap".to_owned(), years_ago, None)).await.unwrap();
        let timing = r#"{"rule":{"cron":"0 0 29 2 *"},"timezone":null}"#.to_owned();
        let declaration = Declaration::new(timing, years_ago);
        let change = ScheduleChange::Declared { declaration, instead_of: None };
        store.set_schedule("leap".to_owned(), change).await.unwrap();
        let tasks = place.builder().only(["leap"]).start().await.unwrap();
        eventually("both leap days are made up for", || async {
            (tasks.counts().await.unwrap().total() == 2).then_some(())
        })
        .await;
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
        store.leave(me.id).await.unwrap();
    }
}

/// The version whose definition ticked, for each tick in order.
async fn versions(tasks: &TaskManager) -> Vec<i16> {
    let ticks = tasks.list(TaskFilter::new().limit(1000)).await.unwrap().items;
    let mut ticks: Vec<_> =
        ticks.into_iter().map(|task| (task.scheduled_for.unwrap(), task.priority)).collect();
    ticks.sort();
    ticks.into_iter().map(|(_, priority)| priority).collect()
}

async fn ticks_by(tasks: &TaskManager, version: i16) {
    eventually(&format!("version {version} ticks"), || async {
        let ticks = versions(tasks).await;
        let latest = ticks.iter().rev().take_while(|ticked| **ticked == version).count();
        (latest >= 4).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_definition_of_the_process_that_started_last_ticks_and_they_never_alternate() {
    for place in everywhere() {
        if matches!(place, Place::Memory(_)) {
            continue;
        }
        let start = || async { place.builder().only(["beat"]).start().await.unwrap() };
        let (first, second) = (start().await, start().await);
        ticks_by(&first, 1).await;
        // A rolling deploy begins.
        let next = NextVersion::start(&place);
        ticks_by(&first, 2).await;
        // A process of the old version is started again.
        second.shutdown(Duration::from_secs(5)).await.unwrap();
        ticks_by(&first, 2).await;
        let again = start().await;
        ticks_by(&first, 1).await;
        // When it is gone, the next version is the last that started.
        again.shutdown(Duration::from_secs(5)).await.unwrap();
        ticks_by(&first, 2).await;
        // The deploy is rolled back.
        next.stop();
        ticks_by(&first, 1).await;
        let mut turns = versions(&first).await;
        turns.dedup();
        assert_eq!(turns, [1, 2, 1, 2, 1], "{place:?}");
        first.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_process_leaves_its_schedule_to_a_younger_one_in_memory_too() {
    let watched = Watched::new(MemoryStore::new());
    let store = watched.store.clone();
    let tasks = TaskManager::builder().store(watched.store.clone()).only(["beat"]).start().await.unwrap();
    ticks_by(&tasks, 1).await;
    let mut other = InstanceInfo::of_this_process(true);
    other.schedules = vec!["beat".to_owned()];
    store.join(&other).await.unwrap();
    let there = store.instances().await.unwrap();
    let since = there.iter().find(|it| it.id == other.id).unwrap().started_at;
    let declaration = Declaration::new(hourly(), since);
    let change = ScheduleChange::Declared { declaration, instead_of: None };
    store.set_schedule("beat".to_owned(), change).await.unwrap();
    let state = async || store.schedule("beat".to_owned()).await.unwrap().unwrap();
    let begin = state().await.last_tick;
    watched.take_calls();
    let mut looked = 0;
    eventually("the older process has looked for the younger one three times", || {
        looked += watched.take_calls().get("instances").copied().unwrap_or_default();
        let enough = looked >= 3;
        async move { enough.then_some(()) }
    })
    .await;
    assert_eq!(state().await.last_tick, begin, "it leaves it alone");
    let shown = tasks.schedules().await.unwrap().into_iter().find(|it| it.name == "beat").unwrap();
    assert_eq!(shown.trigger.as_deref(), Some("every 3600s"), "what ticks is shown");
    store.leave(other.id).await.unwrap();
    eventually("it ticks again", || async { (state().await.last_tick > begin).then_some(()) }).await;
    ticks_by(&tasks, 1).await;
}
