//! Prefetching: a process claims more short tasks than it runs if they may run twice, and nothing else changes.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use support::{Gate, Notes, Peak, Place, ends, eventually, soon};
use taskflow::{
    QueueConfig, State, TaskContext, TaskFilter, TaskId, TaskManager, TaskManagerBuilder, TaskStatus,
};

const SLOTS: usize = 4;
/// The same number, in the type of the counts.
const CLAIMS: u64 = SLOTS as u64;
const QUICK: usize = 2_000;

#[derive(Clone, Default)]
struct Seen {
    bodies: Peak,
    claimed: Notes<u64>,
    ran: Notes<TaskId>,
    gate: Gate,
}

impl Seen {
    fn most_claimed(&self) -> u64 {
        self.claimed.read().into_iter().max().unwrap_or_default()
    }
}

#[taskflow::task(retries = 1)]
async fn quick(State(seen): State<Seen>, State(tasks): State<TaskManager>, context: TaskContext) {
    seen.bodies.enter();
    seen.claimed.write(tasks.health().claimed);
    seen.ran.write(context.id());
    tokio::task::yield_now().await;
    seen.bodies.leave();
}

#[taskflow::task(retries = 1)]
async fn long(State(seen): State<Seen>, context: TaskContext) {
    seen.bodies.enter();
    seen.ran.write(context.id());
    seen.gate.pass().await;
    seen.bodies.leave();
}

/// It may not run twice.
#[taskflow::task]
async fn once(State(seen): State<Seen>, context: TaskContext) {
    seen.bodies.enter();
    seen.ran.write(context.id());
    tokio::task::yield_now().await;
    seen.bodies.leave();
}

/// It may not run twice either, and runs on a thread.
#[taskflow::task]
fn once_on_a_thread(State(seen): State<Seen>, context: TaskContext) {
    seen.ran.write(context.id());
}

fn builder(place: &Place, seen: &Seen) -> TaskManagerBuilder {
    place.builder().state(seen.clone()).max_concurrent_tasks(SLOTS)
}

/// Adds tasks that end at once (in whole batches of 500) and long ones, while no process runs them.
async fn waiting(place: &Place, quick_ones: usize, long_ones: usize) -> Vec<TaskId> {
    let tasks = place.builder().connect().await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..quick_ones.div_ceil(500) {
        ids.extend(
            tasks
                .add_all((0..500).map(|_| tasks.add_task(quick, ())))
                .await
                .unwrap()
                .iter()
                .map(|task| task.id()),
        );
    }
    ids.extend(
        tasks
            .add_all((0..long_ones).map(|_| tasks.add_task(long, ())))
            .await
            .unwrap()
            .iter()
            .map(|task| task.id()),
    );
    ids
}

async fn all_ended(tasks: &TaskManager) {
    eventually("all have ended", || async {
        (tasks.counts().await.unwrap().unfinished() == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn short_tasks_are_prefetched_and_no_more_run_than_may() {
    for place in Place::each() {
        let seen = Seen::default();
        let ids = waiting(&place, QUICK, 0).await;
        let tasks = builder(&place, &seen).start().await.unwrap();
        all_ended(&tasks).await;
        assert!(seen.bodies.highest() <= SLOTS);
        assert!((CLAIMS + 1..=8 * CLAIMS).contains(&seen.most_claimed()), "{} at once", seen.most_claimed());
        assert_eq!(seen.ran.read().len(), QUICK);
        assert_eq!(seen.ran.read().into_iter().collect::<HashSet<_>>(), ids.into_iter().collect());
    }
}

/// Runs short tasks, and checks that no more are claimed than may run.
async fn claims_no_more_than_it_runs(so: impl Fn(TaskManagerBuilder) -> TaskManagerBuilder) {
    for place in Place::each() {
        let seen = Seen::default();
        waiting(&place, QUICK, 0).await;
        let tasks = so(builder(&place, &seen)).start().await.unwrap();
        all_ended(&tasks).await;
        assert!(seen.bodies.highest() <= SLOTS);
        assert_eq!(seen.most_claimed(), CLAIMS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_prefetched_if_nothing_may_be() {
    claims_no_more_than_it_runs(|builder| builder.prefetch(0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_prefetched_from_a_queue_with_a_limit() {
    let limited = QueueConfig::new().concurrency(SLOTS);
    claims_no_more_than_it_runs(|builder| builder.queue("default", limited.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_a_limited_queue_prefetches_from_the_others() {
    for place in Place::each() {
        let seen = Seen::default();
        waiting(&place, QUICK, 0).await;
        let limited = QueueConfig::new().concurrency(SLOTS);
        let tasks = builder(&place, &seen).queue("limited", limited).start().await.unwrap();
        all_ended(&tasks).await;
        assert!(seen.bodies.highest() <= SLOTS);
        assert!(seen.most_claimed() > CLAIMS, "only {} at once", seen.most_claimed());
    }
}

/// Runs tasks that may not run twice. At any time, no more of them are claimed and have not begun than there are slots.
async fn begin_as_soon_as_they_are_claimed(
    so: impl Fn(TaskManagerBuilder) -> TaskManagerBuilder,
    add: impl AsyncFn(&TaskManager),
) {
    for place in Place::each() {
        let seen = Seen::default();
        let adder = place.builder().connect().await.unwrap();
        add(&adder).await;
        let tasks = so(builder(&place, &seen)).start().await.unwrap();
        let running = TaskFilter::new().status(TaskStatus::Running).limit(TaskFilter::MAX_LIMIT);
        let not_begun = Notes::default();
        eventually("all have ended", || async {
            let claimed = adder.list(running.clone()).await.unwrap().items;
            // Read after the list, so that the tasks that began meanwhile are included.
            let began: HashSet<_> = seen.ran.read().into_iter().collect();
            let once = claimed.iter().filter(|task| task.name.starts_with("once"));
            not_begun.write(once.filter(|task| !began.contains(&task.id)).count());
            (adder.counts().await.unwrap().unfinished() == 0).then_some(())
        })
        .await;
        let most = not_begun.read().into_iter().max().unwrap();
        assert!(most <= SLOTS, "{most} had been claimed and had not begun");
        assert!(not_begun.read().len() > 10, "it was too fast for this test");
        tasks.shutdown(Duration::from_secs(1)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_run_twice_begins_as_soon_as_it_is_claimed() {
    let add = async |tasks: &TaskManager| {
        tasks.add_all((0..3_000).map(|_| tasks.add_task(once, ()))).await.unwrap();
    };
    begin_as_soon_as_they_are_claimed(|builder| builder, add).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_run_twice_begins_as_soon_as_it_is_claimed_between_others_and_on_threads() {
    let add = async |tasks: &TaskManager| {
        for n in 0..300 {
            tasks.add_all((0..n % 7).map(|_| tasks.add_task(quick, ()))).await.unwrap();
            tasks.add_all((0..2).map(|_| tasks.add_task(once, ()))).await.unwrap();
            tasks.add_task(once_on_a_thread, ()).await.unwrap();
        }
    };
    begin_as_soon_as_they_are_claimed(|builder| builder.max_blocking_threads(2), add).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_urgent_come_first_and_then_the_oldest() {
    for place in Place::each() {
        let seen = Seen::default();
        let adder = place.builder().connect().await.unwrap();
        let mut expected = Vec::new();
        for n in 0..600_i16 {
            let priority = n * 7 % 5;
            let id = adder.add_task(quick, ()).priority(priority).await.unwrap().id();
            expected.push((-priority, n, id));
        }
        expected.sort();
        let tasks = place.builder().state(seen.clone()).max_concurrent_tasks(1).start().await.unwrap();
        all_ended(&tasks).await;
        assert_eq!(seen.ran.read(), expected.into_iter().map(|(.., id)| id).collect::<Vec<_>>());
        assert!(seen.most_claimed() > 1, "one by one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_slot_goes_back_to_where_others_can_take_it() {
    for place in Place::each() {
        let seen = Seen::default();
        waiting(&place, QUICK, 40).await;
        let first = builder(&place, &seen).start().await.unwrap();
        seen.gate.reached(SLOTS).await;
        eventually("it has no more than it runs", || async {
            (first.health().claimed == CLAIMS).then_some(())
        })
        .await;
        assert_eq!(first.counts().await.unwrap().pending, 40 - CLAIMS);
        let second = place.builder().state(seen.clone()).max_concurrent_tasks(40).start().await.unwrap();
        seen.gate.reached(40).await;
        seen.gate.open();
        all_ended(&second).await;
        let long_ones = first.list(TaskFilter::new().name("long").limit(100)).await.unwrap().items;
        assert_eq!(long_ones.len(), 40);
        for task in long_ones {
            assert_eq!((task.status, task.attempts.len()), (TaskStatus::Success, 1), "{task:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_slot_can_be_cancelled() {
    for place in Place::each() {
        let seen = Seen::default();
        let ids = waiting(&place, QUICK, 40).await;
        let tasks = builder(&place, &seen).start().await.unwrap();
        seen.gate.reached(SLOTS).await;
        let began = seen.ran.read().into_iter().collect::<HashSet<_>>();
        let others: Vec<_> = ids[QUICK..].iter().filter(|id| !began.contains(id)).collect();
        assert_eq!(others.len(), 40 - SLOTS);
        for id in &others {
            tasks.cancel(**id).await.unwrap();
        }
        seen.gate.open();
        for id in others {
            assert_eq!(ends(&tasks, *id).await.status, TaskStatus::Cancelled);
        }
        all_ended(&tasks).await;
        assert_eq!(seen.gate.count(), SLOTS, "what was cancelled ran");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_gives_back_what_has_not_begun() {
    for place in Place::each() {
        let seen = Seen::default();
        let total = 10 * QUICK;
        waiting(&place, total, 0).await;
        let first = builder(&place, &seen).start().await.unwrap();
        eventually("it is at work", || async { (seen.most_claimed() > CLAIMS).then_some(()) }).await;
        let report = soon(first.shutdown(Duration::from_secs(10))).await.unwrap();
        assert_eq!((report.interrupted, report.abandoned), (0, 0), "{report:?}");
        let ran = seen.ran.read().len();
        assert!(ran < total, "it was too fast for this test");
        let second = builder(&place, &seen).start().await.unwrap();
        let counts = second.counts().await.unwrap();
        assert_eq!(counts.total(), total as u64);
        all_ended(&second).await;
        assert_eq!(seen.ran.read().len(), total, "each runs once");
    }
}
