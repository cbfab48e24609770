//! Schedules: each tick happens once over all processes, on one grid, and missed ticks are made up for as configured.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everywhere::everywhere;
use support::eventually;
use taskflow::store::{Fire, ScheduleChange};
use taskflow::{
    Cron, Error, Every, InstanceInfo, MemoryStore, QueueConfig, ScheduleInfo, Store, TaskFilter, TaskManager,
    TaskRecord, TaskStatus,
    model::{TaskSource, TickOutcome},
};

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
    eventually("eight ticks have been added", || async {
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

/// Starts after three and a half hours without any process, and checks which ticks were made up for.
async fn after_an_absence(name: &str, expected: usize) {
    const HOUR: u64 = 3600;
    let hour = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / HOUR;
    let tick = |hour: u64| UNIX_EPOCH + Duration::from_secs(hour * HOUR);
    loop {
        let store = MemoryStore::new();
        let newest = hour();
        store.fire(Fire::new(name.to_owned(), tick(newest - 3), None)).await.unwrap();
        let tasks = start(&store, name).await;
        let dealt_with =
            || async { (store.schedules().await.unwrap()[0].last_tick >= Some(tick(newest))).then_some(()) };
        eventually("the missed ticks are dealt with", dealt_with).await;
        let mut ticks: Vec<_> =
            records(&tasks).await.iter().map(|task| task.scheduled_for.unwrap()).collect();
        if hour() != newest {
            // Another tick came meanwhile. It was not missed.
            continue;
        }
        ticks.sort();
        let missed: Vec<_> = (0..3).rev().map(|hours| tick(newest - hours)).collect();
        return assert_eq!(ticks, missed[3 - expected..]);
    }
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
    eventually("the run on startup succeeds", || async {
        (first.counts().await.unwrap().success == 1).then_some(())
    })
    .await;
    let second = start(&store, "yearly").await;
    // It has checked all ticks when it has checked the last one.
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
    eventually("a run of the schedule began", || async {
        (tasks.counts().await.unwrap().running == 1).then_some(())
    })
    .await;
    let begin = store.schedules().await.unwrap()[0].last_tick.unwrap();
    let later = begin + Duration::from_millis(500);
    eventually("its later ticks are skipped", || async {
        (store.schedules().await.unwrap()[0].last_tick > Some(later)).then_some(())
    })
    .await;
    assert_eq!(records(&tasks).await.len(), 1);
    tasks.cancel_all(TaskFilter::all()).await.unwrap();
    eventually("a tick comes after a cancel", || async { (records(&tasks).await.len() == 2).then_some(()) })
        .await;
    assert_eq!(records(&tasks).await[1].status, TaskStatus::Cancelled);
}

#[tokio::test]
async fn a_process_can_leave_the_ticks_to_others() {
    let store = Arc::new(MemoryStore::new());
    let quiet =
        TaskManager::builder().store((*store).clone()).only(["beat"]).schedules(false).start().await.unwrap();
    let ticking = start(&store, "beat").await;
    eventually("the first tick added a task", || async {
        (!records(&ticking).await.is_empty()).then_some(())
    })
    .await;
    ticking.shutdown(Duration::ZERO).await.unwrap();
    let last = store.schedules().await.unwrap();
    // Another task, which ends after three ticks.
    quiet.add(beat()).run_in(Duration::from_millis(600)).await.unwrap().wait().await.unwrap();
    assert_eq!(store.schedules().await.unwrap(), last);
}

#[taskflow::schedule(every = "1h", run_on_startup)]
async fn hourly() {}

#[tokio::test(flavor = "multi_thread")]
async fn of_processes_that_start_together_one_runs_it_on_startup() {
    for _ in 0..10 {
        let store = MemoryStore::new();
        let starts: Vec<_> = (0..3)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { start(&store, "hourly").await })
            })
            .collect();
        let mut managers = Vec::new();
        for started in starts {
            managers.push(started.await.unwrap());
        }
        // Each process has checked its start tick when it has checked the last tick.
        eventually("the start is seen to", || async {
            let known = store.schedules().await.unwrap();
            let newest = managers[0].instances().await.unwrap().iter().map(|it| it.started_at).max();
            (known.first()?.last_start >= newest && known[0].last_tick.is_some()).then_some(())
        })
        .await;
        assert_eq!(records(&managers[0]).await.len(), 1);
        // While one of these processes lives, a later one does not run it on startup. After the last has ended, the next does.
        let later = start(&store, "hourly").await;
        managers.remove(0).shutdown(Duration::from_secs(1)).await.unwrap();
        managers.push(later);
        for manager in managers {
            manager.shutdown(Duration::from_secs(1)).await.unwrap();
        }
        let next = start(&store, "hourly").await;
        eventually("the next start", || async { (records(&next).await.len() == 2).then_some(()) }).await;
    }
}

/// A schedule whose ticks are only counted.
#[taskflow::task]
async fn clean(folder: String) {
    let _ = folder;
}

fn often() -> Every {
    Every::new(Duration::from_millis(100)).unwrap()
}

async fn shown(tasks: &TaskManager, name: &str) -> Option<ScheduleInfo> {
    tasks.schedules().await.unwrap().into_iter().find(|schedule| schedule.name == name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_can_be_added_replaced_and_removed_while_all_run() {
    let store = MemoryStore::new();
    let managers = [start(&store, "clean").await, start(&store, "clean").await];
    let adds = TaskManager::builder().store(store.clone()).connect().await.unwrap();
    let task = adds.add(clean("uploads".to_owned())).priority(7).tag("kind", "cleaning");
    assert!(!adds.schedule(task, often()).named("cleaning").await.unwrap(), "it is new");
    eventually("five ticks", || async { (records(&adds).await.len() >= 5).then_some(()) }).await;
    let of_ticks = records(&adds).await;
    let ticks: BTreeSet<_> = of_ticks.iter().map(|task| task.scheduled_for.unwrap()).collect();
    assert_eq!(ticks.len(), of_ticks.len(), "each tick once over both");
    for task in &of_ticks {
        assert_eq!((task.priority, task.source), (7, TaskSource::Schedule));
        assert_eq!(task.args.get(), r#"{"folder":"uploads"}"#);
        assert_eq!(task.tags["kind"], "cleaning");
    }
    let info = shown(&adds, "cleaning").await.unwrap();
    assert_eq!(
        (info.stored, info.task.as_deref(), info.trigger.as_deref()),
        (true, Some("clean"), Some("every 100ms"))
    );
    assert_eq!(info.last_outcome, Some(TickOutcome::Added));
    assert!(info.next_run.is_some() && info.last_task.is_some());

    // Replaced by a yearly schedule, it no longer ticks in any process.
    let yearly = Cron::parse("0 0 1 1 *").unwrap().timezone("Europe/Berlin").unwrap();
    assert!(
        adds.schedule(clean("uploads".to_owned()), yearly).named("cleaning").await.unwrap(),
        "it replaced one"
    );
    let info = shown(&adds, "cleaning").await.unwrap();
    assert_eq!(
        (info.trigger.as_deref(), info.timezone.as_deref()),
        (Some("0 0 1 1 *"), Some("Europe/Berlin"))
    );
    assert_eq!((info.last_run, info.last_outcome), (None, None));
    // A second schedule is added while no process runs tasks, and ticks in the next process.
    for manager in managers {
        manager.shutdown(Duration::from_secs(1)).await.unwrap();
    }
    let before = records(&adds).await.len();
    adds.schedule(clean("uploads".to_owned()), often()).await.unwrap();
    let again = start(&store, "clean").await;
    eventually("ticks of the second", || async { (records(&adds).await.len() >= before + 3).then_some(()) })
        .await;
    assert!(adds.remove_schedule("clean").await.unwrap());
    assert!(!adds.remove_schedule("clean").await.unwrap());
    assert!(shown(&adds, "clean").await.is_none());
    // From now on no process ticks it, not even one that does not know of the removal yet.
    let silent = records(&adds).await.len();
    again
        .add(clean("uploads".to_owned()))
        .run_in(Duration::from_millis(400))
        .await
        .unwrap()
        .wait()
        .await
        .unwrap();
    assert_eq!(records(&adds).await.len(), silent + 1, "the task added by hand and no other");
}

#[tokio::test(flavor = "multi_thread")]
async fn ticks_of_a_paused_schedule_are_not_made_up_for() {
    let store = MemoryStore::new();
    let tasks = start(&store, "beat").await;
    eventually("it ticks", || async { (!records(&tasks).await.is_empty()).then_some(()) }).await;
    tasks.pause_schedule("beat").await.unwrap();
    let paused_at = SystemTime::now();
    let info = shown(&tasks, "beat").await.unwrap();
    assert!(info.paused && info.next_run.is_none());
    eventually("ticks pass", || async {
        let state = store.schedules().await.unwrap().remove(0);
        (state.last_tick > Some(paused_at + Duration::from_millis(500))).then_some(())
    })
    .await;
    assert_eq!(shown(&tasks, "beat").await.unwrap().last_outcome, Some(TickOutcome::Paused));
    assert!(records(&tasks).await.iter().all(|task| task.scheduled_for.unwrap() <= paused_at));
    let by_hand = tasks.run_now("beat").await.unwrap();
    assert_eq!(by_hand.wait().await.unwrap(), serde_json::Value::Null);
    assert_eq!(tasks.get(by_hand.id()).await.unwrap().unwrap().source, TaskSource::Schedule);
    tasks.resume_schedule("beat").await.unwrap();
    let resumed_at = SystemTime::now();
    eventually("it ticks again", || async {
        let newest = records(&tasks).await.remove(0);
        (newest.scheduled_for? >= resumed_at - Duration::from_millis(200)).then_some(())
    })
    .await;
    let ticks = records(&tasks).await.into_iter().filter_map(|task| task.scheduled_for);
    let between = ticks.filter(|tick| *tick > paused_at && *tick < resumed_at - Duration::from_millis(200));
    assert_eq!(between.count(), 0);
}

#[tokio::test]
async fn a_full_queue_stops_no_schedule() {
    let store = MemoryStore::new();
    let full = QueueConfig::new().max_size(0);
    let tasks = TaskManager::builder()
        .store(store.clone())
        .only(["beat"])
        .queue("default", full)
        .start()
        .await
        .unwrap();
    let refused = |least: u64| {
        let tasks = &tasks;
        eventually("ticks are refused", move || async move {
            (tasks.queues().await.unwrap()[0].rejected >= least).then_some(())
        })
    };
    refused(3).await;
    assert_eq!(shown(&tasks, "beat").await.unwrap().last_outcome, Some(TickOutcome::Refused));
    tasks.set_queue("default", QueueConfig::new()).await.unwrap();
    eventually("the next tick comes", || async { (!records(&tasks).await.is_empty()).then_some(()) }).await;
}

#[tokio::test]
async fn a_clock_that_was_set_back_fires_no_tick_twice() {
    let store = MemoryStore::new();
    // Ticks up to a second from now were handled before somebody set the clock back.
    let last = SystemTime::now() + Duration::from_secs(1);
    store.fire(Fire::new("beat".to_owned(), last, None)).await.unwrap();
    let tasks = start(&store, "beat").await;
    eventually("it goes on", || async { (!records(&tasks).await.is_empty()).then_some(()) }).await;
    assert!(records(&tasks).await.iter().all(|task| task.scheduled_for.unwrap() > last));
}

#[tokio::test]
async fn a_tick_of_a_clock_that_was_far_ahead_silences_no_schedule() {
    let store = MemoryStore::new();
    let far = SystemTime::now() + Duration::from_secs(10 * 365 * 24 * 3600);
    store.fire(Fire::new("beat".to_owned(), far, None)).await.unwrap();
    let tasks = start(&store, "beat").await;
    eventually("it goes on", || async { (records(&tasks).await.len() >= 2).then_some(()) }).await;
    assert!(shown(&tasks, "beat").await.unwrap().last_run < Some(far));
}

#[tokio::test]
async fn a_schedule_that_no_program_has_any_more_is_left_out_after_a_while() {
    for place in everywhere() {
        let (store, tasks) = (place.store(), place.builder().only(["beat"]).start().await.unwrap());
        let ago = |days: u64| SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        let fire = async |name: &str, tick| {
            store.fire(Fire::new(name.to_owned(), tick, None)).await.unwrap();
        };
        fire("gone", ago(8)).await;
        fire("lately", ago(6)).await;
        fire("paused", ago(8)).await;
        store.set_schedule("paused".to_owned(), ScheduleChange::Paused(true)).await.unwrap();
        // Declared in this program, and in another one that runs.
        fire("yearly", ago(8)).await;
        fire("elsewhere", ago(8)).await;
        let mut other = InstanceInfo::of_this_process(true);
        other.schedules = vec!["elsewhere".to_owned()];
        store.join(&other).await.unwrap();
        let others = async || {
            let all = tasks.schedules().await.unwrap().into_iter();
            let undeclared = all.filter(|it| it.task.is_none()).map(|it| it.name);
            undeclared.collect::<Vec<_>>()
        };
        assert!(shown(&tasks, "yearly").await.is_some());
        assert_eq!(others().await, ["elsewhere", "lately", "paused"], "{place:?}");
        store.leave(other.id).await.unwrap();
        tasks.resume_schedule("paused").await.unwrap();
        assert_eq!(others().await, ["lately", "paused"], "{place:?}: a resume counts like a tick");
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test]
async fn a_schedule_that_cannot_be_meant_is_refused_with_the_remedy() {
    let tasks = start(&MemoryStore::new(), "clean").await;
    assert!(Cron::parse("0 25 * * *").unwrap_err().to_string().contains("0 25 * * *"));
    assert!(Cron::parse("0 0 30 2 *").unwrap_err().to_string().contains("never fires"));
    assert!(Cron::parse("@daily").unwrap().timezone("Europe/Atlantis").is_err());
    assert!(Every::new(Duration::from_millis(1)).unwrap_err().to_string().contains("100ms"));
    let declared = tasks.schedule(clean("uploads".to_owned()), often()).named("beat").await.unwrap_err();
    assert!(matches!(&declared, Error::ScheduleDeclared { name } if name == "beat"), "{declared}");
    assert!(matches!(tasks.remove_schedule("beat").await, Err(Error::ScheduleDeclared { .. })));
    let keyed = tasks.add(clean("uploads".to_owned())).idempotency_key("once");
    let refused = tasks.schedule(keyed, often()).await.unwrap_err().to_string();
    assert!(refused.contains("idempotency_key"), "{refused}");
    let lost = tasks.add(clean("uploads".to_owned())).queue("mial");
    assert!(tasks.schedule(lost, often()).await.unwrap_err().to_string().contains("mial"));
    for unknown in [
        tasks.pause_schedule("baet").await.unwrap_err(),
        tasks.resume_schedule("baet").await.unwrap_err(),
        tasks.run_now("baet").await.unwrap_err(),
    ] {
        assert_eq!(unknown.to_string(), "there is no schedule `baet`; did you mean `beat`?");
    }
    assert!(!tasks.remove_schedule("nothing").await.unwrap());
}

#[tokio::test]
async fn ticks_of_a_pause_are_not_made_up_for_where_no_process_saw_them() {
    let store = MemoryStore::new();
    let hours_ago = SystemTime::now() - Duration::from_secs(3 * 3600);
    store.fire(Fire::new("missed_all".to_owned(), hours_ago, None)).await.unwrap();
    let acts = TaskManager::builder().store(store.clone()).connect().await.unwrap();
    acts.pause_schedule("missed_all").await.unwrap();
    let before = SystemTime::now();
    acts.resume_schedule("missed_all").await.unwrap();
    let state = store.schedules().await.unwrap().remove(0);
    assert!(!state.paused && state.last_tick >= Some(before - Duration::from_millis(1)), "{state:?}");
}

#[tokio::test]
async fn a_declared_schedule_beats_one_that_was_stored_under_its_name() {
    let store = MemoryStore::new();
    let acts = TaskManager::builder().store(store.clone()).connect().await.unwrap();
    acts.schedule(clean("uploads".to_owned()), often()).named("cleaning").await.unwrap();
    let definition = store.schedules().await.unwrap().remove(0).definition.unwrap();
    acts.remove_schedule("cleaning").await.unwrap();
    let stored = ScheduleChange::Defined { definition, from: SystemTime::now() };
    store.set_schedule("beat".to_owned(), stored).await.unwrap();
    let tasks = start(&store, "beat").await;
    eventually("it ticks", || async { (records(&tasks).await.len() >= 4).then_some(()) }).await;
    assert!(records(&tasks).await.iter().all(|task| task.name == "beat"));
    assert!(tasks.remove_schedule("beat").await.unwrap(), "what was stored can be removed");
    assert!(matches!(tasks.remove_schedule("beat").await, Err(Error::ScheduleDeclared { .. })));
}
