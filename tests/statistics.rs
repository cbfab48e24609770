//! Statistics: every process reads the numbers of all processes together.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/next_version.rs"]
mod next_version;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use everywhere::everywhere;
use next_version::NextVersion;
use support::{Gate, Place, ends, eventually, reaches};
use taskflow::model::{RunCounts, RunStats, Stats, StatsBy, StatsFilter, StoreError, StoreErrorKind};
use taskflow::store::Claim;
use taskflow::{
    AddError, AttemptOutcome, InstanceInfo, MemoryStore, QueueConfig, State, TaskContext, TaskError,
    TaskFilter, TaskManager, TaskRecord, TaskStatus,
};
use wrapper::{Wrapper, go_on};

const HOUR: Duration = Duration::from_secs(3600);

/// Ends as `how` says for each attempt in turn; the last counts for all further ones.
#[taskflow::task(name = "stats.act", retries = 2, delay = "1ms", max_delay = "1ms", timeout = "150ms")]
async fn act(context: TaskContext, how: Vec<char>) -> Result<(), TaskError> {
    let at = usize::try_from(context.attempt()).unwrap() - 1;
    match how.get(at).or(how.last()).copied().unwrap_or('s') {
        's' => Ok(()),
        'f' => Err(std::io::Error::other("no"))?,
        'a' => Err(TaskError::abort("never")),
        'p' => panic!("boom"),
        't' => std::future::pending().await,
        other => panic!("`how` has an unknown letter `{other}`"),
    }
}

#[taskflow::task(name = "stats.snooze", max_snoozes = 2)]
async fn snooze() -> Result<(), TaskError> {
    Err(TaskError::snooze(Duration::from_millis(1)))
}

#[taskflow::task(name = "stats.block")]
fn block(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

#[taskflow::task(name = "stats.wait", queue = "slow")]
async fn wait(State(gate): State<Gate>) {
    gate.pass().await;
}

async fn start(place: &Place, gate: &Gate) -> TaskManager {
    let slow = QueueConfig::new().concurrency(1).max_size(3);
    place.builder().state(gate.clone()).queue("slow", slow).start().await.unwrap()
}

/// The totals by name.
async fn by_name(tasks: &TaskManager) -> BTreeMap<String, RunStats> {
    let stats = tasks.stats(StatsFilter::last(HOUR).by(StatsBy::Name)).await.unwrap();
    stats.series.into_iter().map(|series| (series.key.clone().unwrap(), series.total())).collect()
}

/// What the records say happened.
fn oracle(records: &[TaskRecord]) -> BTreeMap<String, RunCounts> {
    let mut expected: BTreeMap<String, RunCounts> = BTreeMap::new();
    for record in records {
        let counts = expected.entry(record.name.clone()).or_default();
        counts.added += 1;
        for (at, attempt) in record.attempts.iter().enumerate() {
            counts.started += 1;
            let is_last = at + 1 == record.attempts.len();
            let failed = if is_last { &mut counts.failed } else { &mut counts.retried };
            match attempt.outcome {
                AttemptOutcome::Success => counts.succeeded += 1,
                AttemptOutcome::Failed => *failed += 1,
                AttemptOutcome::Panicked => {
                    *failed += 1;
                    counts.panicked += 1;
                }
                AttemptOutcome::TimedOut => {
                    *failed += 1;
                    counts.timed_out += 1;
                }
                AttemptOutcome::Snoozed => counts.snoozed += 1,
                AttemptOutcome::Cancelled => counts.cancelled += 1,
                AttemptOutcome::HandedBack => counts.handed_back += 1,
                AttemptOutcome::Interrupted => counts.interrupted += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    expected
}

/// Runs tasks that end in every way. One add is refused, and one task still runs.
async fn live_through_everything(tasks: &TaskManager, gate: &Gate) {
    let mut added = Vec::new();
    for how in ["s", "fs", "ffs", "f", "a", "p", "ps", "ts", "s", "s"] {
        added.push(tasks.add_task(act, (how.chars().collect(),)).await.unwrap().id());
    }
    added.push(tasks.add(snooze()).await.unwrap().id());
    added.push(tasks.add(block(30)).await.unwrap().id());
    // Not in the queue of its attribute.
    added.push(tasks.add(block(1)).queue("slow").await.unwrap().id());
    for id in &added {
        ends(tasks, *id).await;
    }
    let running = tasks.add_task(wait, ()).await.unwrap().id();
    gate.reached(1).await;
    for _ in 0..3 {
        tasks.add_task(wait, ()).await.unwrap();
    }
    let refused = tasks.add_task(wait, ()).await.unwrap_err();
    assert!(matches!(refused, AddError::QueueFull { .. }), "{refused}");
    tasks.cancel(running).await.unwrap();
    reaches(tasks, running, TaskStatus::Cancelled).await;
    gate.reached(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_is_what_happened_in_all_processes_together() {
    for place in everywhere() {
        let viewer = place.builder().connect().await.unwrap();
        for _ in 0..2 {
            let gate = Gate::default();
            let tasks = start(&place, &gate).await;
            live_through_everything(&tasks, &gate).await;
            // The shutdown interrupts the task that runs.
            tasks.cancel_all(TaskFilter::new().status(TaskStatus::Pending)).await.unwrap();
            tasks.shutdown(Duration::ZERO).await.unwrap();
        }
        let mut records = Vec::new();
        for outline in viewer.list(TaskFilter::new().limit(1000)).await.unwrap().items {
            records.extend(viewer.get(outline.id).await.unwrap());
        }
        let mut expected = oracle(&records);
        expected.get_mut("stats.wait").unwrap().rejected = 2;
        let found = by_name(&viewer).await;
        let counts: BTreeMap<_, _> = found.iter().map(|(name, stats)| (name.clone(), stats.counts)).collect();
        assert_eq!(counts, expected, "{place:?}");
        for (name, stats) in &found {
            assert_eq!(stats.run.count(), stats.counts.started, "{name} {place:?}");
            assert_eq!(stats.counts.ended(), stats.counts.started, "{name} {place:?}");
            assert!(stats.wait.count() > 0 && stats.wait.count() <= stats.counts.started, "{name} {place:?}");
        }
        let by_outcome = viewer.stats(StatsFilter::last(HOUR).by(StatsBy::Outcome)).await.unwrap().series;
        let by_outcome: BTreeMap<_, _> =
            by_outcome.iter().map(|series| (series.key.clone().unwrap(), series.total())).collect();
        let mut all = RunCounts::default();
        found.values().for_each(|stats| all += &stats.counts);
        let counts = [
            ("succeeded", all.succeeded),
            ("failed", all.failed),
            ("retried", all.retried),
            ("snoozed", all.snoozed),
            ("cancelled", all.cancelled),
            ("handed_back", all.handed_back),
            ("interrupted", all.interrupted),
            ("lost", all.lost),
        ];
        let counts: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(by_outcome.len(), counts.len(), "{place:?}");
        for (outcome, count) in counts {
            let stats = &by_outcome[outcome];
            let alone = serde_json::to_value(stats.counts).unwrap();
            assert_eq!((alone[outcome].as_u64(), stats.counts.ended()), (Some(count), count), "{place:?}");
            assert_eq!((stats.run.count(), stats.counts.started), (0, 0), "{outcome} {place:?}");
        }
        let all = found["stats.act"].counts;
        assert!(all.retried > 0 && all.failed > 0 && all.panicked > 0 && all.timed_out > 0, "{all:?}");
        let wait = found["stats.wait"].counts;
        assert!(wait.cancelled == 2 && wait.interrupted > 0 && found["stats.snooze"].counts.snoozed == 4);
        let blocked = &found["stats.block"].run;
        assert!(blocked.quantile(1.0).unwrap() >= Duration::from_millis(30), "{blocked:?}");
        assert!(blocked.sum >= Duration::from_millis(60), "{blocked:?}");
        check_the_ways_to_read(&viewer, &found).await;
        viewer.shutdown(Duration::ZERO).await.unwrap();
    }
}

/// All ways to group and to filter give parts of the same numbers.
async fn check_the_ways_to_read(viewer: &TaskManager, by_name: &BTreeMap<String, RunStats>) {
    let of = |filter: StatsFilter| async { viewer.stats(filter).await.unwrap() };
    let all = of(StatsFilter::last(HOUR)).await;
    let sum = by_name.values().fold(RunStats::default(), |mut sum, stats| {
        sum += stats;
        sum
    });
    assert_eq!((all.series.len(), all.total()), (1, sum));
    let hours = of(StatsFilter::last(HOUR).step(HOUR)).await;
    assert_eq!(hours.total(), all.total(), "an hour has all its minutes");
    let slow = of(StatsFilter::last(HOUR).queue("slow").by(StatsBy::Name)).await;
    let names: Vec<_> = slow.series.iter().map(|series| series.key.as_deref().unwrap()).collect();
    assert_eq!(names, ["stats.block", "stats.wait"]);
    assert_eq!(slow.series[0].total().counts.added, 2);
    let queues = of(StatsFilter::last(HOUR).name("stats.block").by(StatsBy::Queue)).await;
    let queues: Vec<_> =
        queues.series.iter().map(|it| (it.key.clone().unwrap(), it.total().counts.succeeded)).collect();
    assert_eq!(queues, [("default".to_owned(), 2), ("slow".to_owned(), 2)]);
    let before = SystemTime::now() - 3 * HOUR;
    assert_eq!(of(StatsFilter::between(before, before + HOUR)).await.total(), RunStats::default());
    let json = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Stats>(&json).unwrap(), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_only_adds_counts_its_adds() {
    let place = Place::sqlite();
    let web = place.builder().connect().await.unwrap();
    for _ in 0..5 {
        web.add(block(1)).await.unwrap();
    }
    web.shutdown(Duration::ZERO).await.unwrap();
    let tasks = start(&place, &Gate::default()).await;
    eventually("all have ended", || async { (tasks.counts().await.unwrap().success == 5).then_some(()) })
        .await;
    tasks.shutdown(Duration::ZERO).await.unwrap();
    let viewer = place.builder().connect().await.unwrap();
    let counts = by_name(&viewer).await["stats.block"].counts;
    assert_eq!((counts.added, counts.started, counts.succeeded), (5, 5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_waits_from_its_add_or_from_when_it_is_due() {
    let place = Place::memory();
    let gate = Gate::default();
    let tasks = start(&place, &gate).await;
    let first = tasks.add_task(wait, ()).await.unwrap().id();
    gate.reached(1).await;
    let waits = tasks.add_task(wait, ()).await.unwrap().id();
    let delayed = tasks.add(block(0)).run_in(Duration::from_secs(1)).await.unwrap().id();
    ends(&tasks, delayed).await;
    gate.open();
    ends(&tasks, first).await;
    ends(&tasks, waits).await;
    tasks.shutdown(Duration::ZERO).await.unwrap();
    let found = by_name(&place.builder().connect().await.unwrap()).await;
    let waited = &found["stats.wait"].wait;
    assert_eq!(waited.count(), 2);
    assert!(waited.sum >= Duration::from_millis(990), "{waited:?}");
    // It was added a second before its start, but was due only at its start, so it hardly waited.
    let due = &found["stats.block"].wait;
    assert_eq!(due.count(), 1);
    assert!(due.sum < Duration::from_millis(900), "{due:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_lost_is_counted_by_the_process_that_moves_it_on() {
    let place = Place::memory();
    let (store, dead) = (place.store(), InstanceInfo::of_this_process(true));
    store.join(&dead).await.unwrap();
    let web = place.builder().connect().await.unwrap();
    let id = web.add_task(act, (vec!['s'],)).await.unwrap().id();
    let (names, queues) = ([Arc::from("stats.act")], vec![(Arc::from("default"), 1)]);
    let claim = Claim::new(dead.id, Duration::from_millis(30), Arc::from(names), queues, 1);
    assert_eq!(store.claim(claim).await.unwrap().tasks.len(), 1);
    reaches(&web, id, TaskStatus::Pending).await;
    web.shutdown(Duration::ZERO).await.unwrap();
    let viewer = place.builder().connect().await.unwrap();
    let counts = by_name(&viewer).await["stats.act"].counts;
    assert_eq!((counts.added, counts.started, counts.lost), (1, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_loses_at_most_its_last_ten_seconds_and_nothing_counts_twice() {
    let place = Place::sqlite();
    let viewer = place.builder().connect().await.unwrap();
    let succeeded = async || viewer.stats(StatsFilter::last(HOUR)).await.unwrap().total().counts.succeeded;
    let program = NextVersion::start(&place);
    // The program writes its statistics within 10 s.
    eventually("the first statistics are there", || async { (succeeded().await > 0).then_some(()) }).await;
    // The drop kills it.
    drop(program);
    let (kept, happened) = (succeeded().await, viewer.counts().await.unwrap().success);
    // The program runs four tasks a second: 44 in 11 s.
    assert!(kept <= happened && happened - kept <= 44, "{kept} of {happened}");
    let again = NextVersion::start(&place);
    eventually("it goes on", || async {
        (viewer.counts().await.unwrap().success >= happened + 3).then_some(())
    })
    .await;
    again.stop();
    let total = viewer.counts().await.unwrap().success;
    assert_eq!(succeeded().await, kept + (total - happened), "{kept} of {happened}, then {total}");
    let hours = viewer.stats(StatsFilter::last(HOUR).step(HOUR)).await.unwrap();
    assert_eq!(hours.total().counts.succeeded, succeeded().await);
}

/// A store that counts the writes of documents, and answers them only if `answers`.
fn counting(answers: bool) -> (Wrapper, Arc<AtomicUsize>) {
    let writes: Arc<AtomicUsize> = Arc::default();
    let counted = writes.clone();
    let store = Wrapper::new(Arc::new(MemoryStore::new()), move |call| {
        let is_write = call == "write_documents";
        counted.fetch_add(usize::from(is_write), Ordering::SeqCst);
        if is_write && !answers { Box::pin(std::future::pending()) } else { go_on() }
    });
    (store, writes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_should_write_none_writes_none() {
    for stats in [true, false] {
        let (store, writes) = counting(true);
        let web = TaskManager::builder().store(store.clone()).stats(stats).connect().await.unwrap();
        web.add(block(1)).await.unwrap();
        web.shutdown(Duration::ZERO).await.unwrap();
        assert_eq!(writes.load(Ordering::SeqCst) > 0, stats);
        let viewer = TaskManager::builder().store(store).connect().await.unwrap();
        let total = viewer.stats(StatsFilter::last(HOUR)).await.unwrap().total();
        assert_eq!(total.counts.added, u64::from(stats));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_take_the_last_statistics_delays_no_shutdown() {
    let (store, writes) = counting(false);
    let web = TaskManager::builder().store(store).connect().await.unwrap();
    web.add(block(1)).await.unwrap();
    let since = Instant::now();
    web.shutdown(Duration::from_secs(600)).await.unwrap();
    // The regular write may have begun too.
    assert!(writes.load(Ordering::SeqCst) > 0);
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_range_that_cannot_be_shown_is_refused_with_the_remedy() {
    let tasks = TaskManager::builder().connect().await.unwrap();
    let refused = async |filter: StatsFilter| tasks.stats(filter).await.unwrap_err().to_string();
    let day = StatsFilter::last(24 * HOUR);
    assert!(refused(day.clone().step(Duration::from_secs(30))).await.contains("whole number of minutes"));
    let too_many = refused(StatsFilter::last(25 * HOUR).step(Duration::from_secs(60))).await;
    assert!(too_many.contains("1,440") && too_many.contains("longer step"), "{too_many}");
    let now = SystemTime::now();
    assert!(refused(StatsFilter::between(now, now)).await.contains("before"));
    let stats = tasks.stats(day).await.unwrap();
    assert!(stats.series[0].points.is_empty() && stats.step == Duration::from_secs(600), "{stats:?}");
    assert!((144..=145).contains(&stats.instants().count()), "{stats:?}");
}

#[tokio::test]
async fn a_store_that_keeps_no_documents_has_no_statistics_and_says_so() {
    let store = Wrapper::new(Arc::new(MemoryStore::new()), |call| match call {
        "documents" | "write_documents" => {
            let error = StoreError::new(StoreErrorKind::Unsupported, "this store keeps no documents");
            Box::pin(std::future::ready(Err(error)))
        }
        _ => go_on(),
    });
    let tasks = TaskManager::builder().store(store).connect().await.unwrap();
    tasks.add(block(1)).await.unwrap();
    let error = tasks.stats(StatsFilter::last(HOUR)).await.unwrap_err();
    assert!(error.to_string().contains("keeps no documents"), "{error}");
    assert!(tasks.health().is_healthy());
    tasks.shutdown(Duration::ZERO).await.unwrap();
}
