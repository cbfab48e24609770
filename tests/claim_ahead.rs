//! Claiming ahead: a process that is shown short tasks has more of them than it runs, and nothing else changes.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use support::{Gate, Notes, Peak, Place, ends, eventually, soon};
use taskflow::{
    QueueConfig, State, TaskContext, TaskFilter, TaskId, TaskManager, TaskManagerBuilder, TaskStatus,
};

const SLOTS: usize = 4;
/// The same, as what is claimed is counted.
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

#[taskflow::task]
async fn quick(State(seen): State<Seen>, State(tasks): State<TaskManager>, context: TaskContext) {
    seen.bodies.enter();
    seen.claimed.write(tasks.health().claimed);
    seen.ran.write(context.id());
    tokio::task::yield_now().await;
    seen.bodies.leave();
}

#[taskflow::task]
async fn long(State(seen): State<Seen>, context: TaskContext) {
    seen.bodies.enter();
    seen.ran.write(context.id());
    seen.gate.pass().await;
    seen.bodies.leave();
}

fn builder(place: &Place, seen: &Seen) -> TaskManagerBuilder {
    place.builder().state(seen.clone()).max_concurrent_tasks(SLOTS)
}

/// So many waiting tasks that end at once, and that nobody runs yet.
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
async fn short_tasks_are_claimed_ahead_and_no_more_run_than_may() {
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

/// Runs short ones, of which no more are claimed than may run.
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
async fn nothing_is_claimed_ahead_if_nothing_may_be() {
    claims_no_more_than_it_runs(|builder| builder.claim_ahead(0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_queue_with_a_limit_nothing_is_claimed_ahead() {
    let limited = QueueConfig::new().concurrency(SLOTS);
    claims_no_more_than_it_runs(|builder| builder.queue("default", limited.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_queue_with_a_limit_nothing_is_claimed_ahead() {
    let limited = QueueConfig::new().concurrency(SLOTS);
    claims_no_more_than_it_runs(|builder| builder.queue("limited", limited.clone())).await;
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
