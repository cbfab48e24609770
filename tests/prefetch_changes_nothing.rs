//! Prefetching: what it must not change.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::time::{Duration, Instant, SystemTime};

use support::{Notes, Peak, Place, eventually, soon};
use taskflow::{QueueConfig, State, TaskManager, TaskManagerBuilder};

#[derive(Clone, Default)]
struct Seen {
    quick: Notes<Instant>,
    naps: Notes<Instant>,
    late: Notes<Duration>,
    claimed: Notes<u64>,
    bodies: Peak,
}

#[taskflow::task(retries = 1)]
async fn quick(State(seen): State<Seen>) {
    seen.quick.write(Instant::now());
    tokio::task::yield_now().await;
}

#[taskflow::task(retries = 1)]
async fn nap(State(seen): State<Seen>, State(tasks): State<TaskManager>, millis: u64) {
    seen.bodies.enter();
    seen.naps.write(Instant::now());
    seen.claimed.write(tasks.health().claimed);
    tokio::time::sleep(Duration::from_millis(millis)).await;
    seen.claimed.write(tasks.health().claimed);
    seen.bodies.leave();
}

async fn add_quick(tasks: &TaskManager, count: usize) {
    for _ in 0..count / 500 {
        tasks.add_all((0..500).map(|_| tasks.add_task(quick, ()))).await.unwrap();
    }
}

async fn add_naps(tasks: &TaskManager, count: usize, millis: u64) {
    tasks.add_all((0..count).map(|_| tasks.add_task(nap, (millis,)))).await.unwrap();
}

async fn all_ended(tasks: &TaskManager) {
    eventually("all have ended", || async {
        (tasks.counts().await.unwrap().unfinished() == 0).then_some(())
    })
    .await;
}

fn with_limited(place: &Place) -> TaskManagerBuilder {
    place.builder().queue("limited", QueueConfig::new().concurrency(2))
}

async fn start(builder: TaskManagerBuilder, seen: &Seen, slots: usize) -> TaskManager {
    builder.state(seen.clone()).max_concurrent_tasks(slots).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_urgent_task_of_a_queue_with_a_limit_does_not_wait_for_a_backlog_without() {
    let place = Place::sqlite();
    let seen = Seen::default();
    let adder = with_limited(&place).connect().await.unwrap();
    add_quick(&adder, 40_000).await;
    let tasks = start(with_limited(&place), &seen, 8).await;
    eventually("it is at work", || async { (seen.quick.read().len() > 1_000).then_some(()) }).await;
    adder.add_task(nap, (1,)).queue("limited").priority(100).await.unwrap();
    let before = seen.quick.read().len();
    eventually("the urgent one began", || async { (!seen.naps.read().is_empty()).then_some(()) }).await;
    let began = seen.naps.read()[0];
    let passed = seen.quick.read().iter().filter(|at| **at < began).count().saturating_sub(before);
    tasks.shutdown(Duration::ZERO).await.unwrap();
    assert!(passed < 1_000, "{passed} less urgent ones came first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_a_limit_does_not_wait_for_a_poll_when_slots_become_free() {
    let place = Place::sqlite();
    let adder = with_limited(&place).connect().await.unwrap();
    let mut longest = Vec::new();
    for _ in 0..3 {
        let seen = Seen::default();
        add_quick(&adder, 3_000).await;
        adder.add_all((0..10).map(|_| adder.add_task(nap, (1,)).queue("limited"))).await.unwrap();
        let tasks = start(with_limited(&place), &seen, 8).await;
        all_ended(&tasks).await;
        tasks.shutdown(Duration::ZERO).await.unwrap();
        let mut starts = [seen.quick.read(), seen.naps.read()].concat();
        starts.sort();
        longest.extend(starts.windows(2).map(|pair| pair[1] - pair[0]).max());
    }
    let longest = longest.into_iter().max().unwrap();
    assert!(longest < Duration::from_millis(300), "nothing began for {longest:?} while tasks waited");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_back_has_not_used_up_a_start_of_its_queues_rate() {
    for round in 0..4 {
        let (place, seen) = (Place::sqlite(), Seen::default());
        let limit = QueueConfig::new().rate_limit(4, Duration::from_secs(3));
        let adder = place.builder().queue("rated", limit.clone()).connect().await.unwrap();
        add_quick(&adder, 3_000).await;
        let tasks = start(place.builder().queue("rated", limit), &seen, 4).await;
        eventually("the window is open", || async { (seen.quick.read().len() == 3_000).then_some(()) }).await;
        let added = Instant::now();
        let urgent = (0..4).map(|_| adder.add_task(nap, (300,)).priority(5));
        let rated = (0..4).map(|_| adder.add_task(nap, (1,)).queue("rated"));
        adder.add_all(urgent.chain(rated)).await.unwrap();
        eventually("all began", || async { (seen.naps.read().len() == 8).then_some(()) }).await;
        let waited = *seen.naps.read().last().unwrap() - added;
        tasks.shutdown(Duration::from_secs(1)).await.unwrap();
        assert!(
            waited < Duration::from_secs(2),
            "four starts are allowed, none was made in {waited:?} (round {round})"
        );
    }
}

/// Short tasks, then some of 30 ms. The first of these have begun, and others are claimed and wait.
async fn naps_behind_short_ones(place: &Place, seen: &Seen) -> TaskManager {
    let adder = place.builder().connect().await.unwrap();
    add_quick(&adder, 5_000).await;
    add_naps(&adder, 300, 30).await;
    let tasks = start(place.builder(), seen, 16).await;
    eventually("the first of them began", || async { (!seen.naps.read().is_empty()).then_some(()) }).await;
    tasks
}

/// Waits until at most that many tasks of the queue are claimed: the others have ended or were given back.
async fn at_most_are_claimed(tasks: &TaskManager, most: u64) {
    eventually("what was claimed before has ended or gone back", || async {
        let queues = tasks.queues().await.unwrap();
        (queues.iter().find(|queue| queue.name == "default")?.running <= most).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_queue_starts_once_its_pause_has_taken_effect() {
    let (place, seen) = (Place::sqlite(), Seen::default());
    let tasks = naps_behind_short_ones(&place, &seen).await;
    tasks.pause_queue("default").await.unwrap();
    at_most_are_claimed(&tasks, 0).await;
    let before = seen.naps.read().len();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let after = seen.naps.read().len();
    tasks.shutdown(Duration::ZERO).await.unwrap();
    assert!(after < 300, "all began before the pause");
    assert_eq!(after, before, "some began while the queue was paused");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_starts_beyond_a_limit_that_has_shrunk() {
    let (place, seen) = (Place::sqlite(), Seen::default());
    let tasks = naps_behind_short_ones(&place, &seen).await;
    tasks.set_queue("default", QueueConfig::new().concurrency(1)).await.unwrap();
    at_most_are_claimed(&tasks, 1).await;
    let (since, before) = (Instant::now(), seen.naps.read().len());
    eventually("five more began", || async { (seen.naps.read().len() >= before + 5).then_some(()) }).await;
    // They run one after the other, each for at least 30 ms.
    let (began, most) = (seen.naps.read().len() - before, since.elapsed().as_millis() / 30 + 1);
    tasks.shutdown(Duration::ZERO).await.unwrap();
    assert!(began as u128 <= most, "{began} began in the time of {most}");
}

#[taskflow::task(retries = 1)]
async fn brief(State(seen): State<Seen>, until: SystemTime) {
    if let Ok(late) = SystemTime::now().duration_since(until) {
        seen.late.write(late);
    }
    tokio::time::sleep(Duration::from_millis(40)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_begun_when_it_expires_never_does() {
    let (place, seen) = (Place::memory(), Seen::default());
    let adder = place.builder().connect().await.unwrap();
    let tasks = start(place.builder(), &seen, 16).await;
    for _ in 0..5 {
        add_quick(&adder, 4_000).await;
        let until = SystemTime::now() + Duration::from_millis(200);
        adder.add_all((0..300).map(|_| adder.add_task(brief, (until,)).expires_at(until))).await.unwrap();
        all_ended(&tasks).await;
    }
    let late: Vec<_> =
        // A body may be polled somewhat later than it is started.
        seen.late.read().into_iter().filter(|late| *late > Duration::from_millis(30)).collect();
    assert!(
        late.is_empty(),
        "{} began after they had expired, by {:?} at most",
        late.len(),
        late.iter().max()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_take_a_hundred_round_trips_are_not_prefetched() {
    let (place, seen) = (Place::sqlite(), Seen::default());
    let adder = place.builder().connect().await.unwrap();
    add_naps(&adder, 320, 300).await;
    let tasks = start(place.builder(), &seen, 64).await;
    all_ended(&tasks).await;
    let most = seen.claimed.read().into_iter().max().unwrap();
    assert_eq!(most, 64, "as many were claimed as there are slots, and no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_slots_or_of_prefetched_tasks_will_do() {
    for builder in [
        Place::memory().builder().prefetch(usize::MAX),
        Place::memory().builder().max_concurrent_tasks(usize::MAX).prefetch(1),
    ] {
        let tasks = builder.state(Seen::default()).start().await.unwrap();
        soon(tasks.add_task(quick, ())).await.unwrap();
        all_ended(&tasks).await;
    }
}
