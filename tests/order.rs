//! Which task runs first, and how many run at once.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::time::Duration;

use support::{Gate, Notes, Peak, Place, record, soon};
use taskflow::{QueueConfig, State, TaskManager, TaskManagerBuilder, TaskStatus, task::IntoNewTask};

#[taskflow::task]
async fn note(State(notes): State<Notes<i32>>, n: i32) {
    notes.write(n);
}

#[taskflow::task]
async fn block(State(gate): State<Gate>) {
    gate.pass().await;
}

#[taskflow::task]
async fn stay(State(peaks): State<[Peak; 3]>, queue: usize) {
    for peak in [&peaks[queue], &peaks[2]] {
        peak.enter();
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    for peak in [&peaks[queue], &peaks[2]] {
        peak.leave();
    }
}

#[taskflow::task]
fn stay_sync(State(peaks): State<[Peak; 3]>, queue: usize) {
    peaks[queue].enter();
    std::thread::sleep(Duration::from_millis(1));
    peaks[queue].leave();
}

#[taskflow::task]
fn block_sync(State(gate): State<Gate>) {
    gate.pass_blocking();
}

struct Scene {
    gate: Gate,
    notes: Notes<i32>,
    peaks: [Peak; 3],
}

fn scene(place: &Place) -> (TaskManagerBuilder, Scene) {
    let scene = Scene { gate: Gate::default(), notes: Notes::default(), peaks: Default::default() };
    let builder = place
        .builder()
        .state(scene.gate.clone())
        .state(scene.notes.clone())
        .state(scene.peaks.clone())
        .queue("other", QueueConfig::new());
    (builder, scene)
}

async fn wait_for_all(handles: Vec<taskflow::TaskHandle<()>>) {
    for handle in handles {
        soon(handle.wait()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_slot_higher_priorities_go_first_and_equal_ones_in_order() {
    for place in Place::each() {
        let (builder, scene) = scene(&place);
        let tasks = builder.max_concurrent_tasks(1).start().await.unwrap();
        tasks.add_task(block, ()).await.unwrap();
        scene.gate.reached(1).await;
        let mut handles = Vec::new();
        for n in 0..60 {
            let queue = if n % 4 == 0 { "other" } else { "default" };
            let priority = (n % 3) as i16 - 1;
            handles.push(tasks.add_task(note, (n,)).priority(priority).queue(queue).await.unwrap());
        }
        scene.gate.open();
        wait_for_all(handles).await;
        let mut expected: Vec<i32> = (0..60).collect();
        expected.sort_by_key(|n| -(n % 3));
        assert_eq!(scene.notes.read(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_finds_a_free_slot_begins_with_its_most_urgent_task() {
    for place in Place::each() {
        let (builder, scene) = scene(&place);
        let tasks = builder.max_concurrent_tasks(1).start().await.unwrap();
        let handles = (0..5).map(|n| tasks.add_task(note, (n,)).priority(n as i16));
        wait_for_all(tasks.add_all(handles).await.unwrap()).await;
        assert_eq!(scene.notes.read(), [4, 3, 2, 1, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_while_nobody_ran_is_run_in_order() {
    for place in Place::each() {
        let (builder, _) = scene(&place);
        let adding = builder.connect().await.unwrap();
        for n in [3, 1, 2] {
            adding.add_task(note, (n,)).priority(n as i16).await.unwrap();
        }
        let (builder, scene) = scene(&place);
        let tasks = builder.max_concurrent_tasks(1).start().await.unwrap();
        support::eventually("all ran", || async { (scene.notes.read().len() == 3).then_some(()) }).await;
        assert_eq!(scene.notes.read(), [3, 2, 1]);
        drop(tasks);
    }
}

/// The highest number of tasks that ran at once: in `other`, which runs at most 2, and in all queues.
async fn highest(place: &Place, max_concurrent_tasks: usize) -> (usize, usize) {
    let (builder, scene) = scene(place);
    let builder = builder.queue("other", QueueConfig::new().concurrency(2));
    let tasks = builder.max_concurrent_tasks(max_concurrent_tasks).start().await.unwrap();
    let names = ["default", "other"];
    let adders = (0..4).map(|adder| {
        let tasks = tasks.clone();
        tokio::spawn(async move {
            let mut handles = Vec::new();
            for n in 0..50 {
                let queue = (adder + n) % 2;
                let add = tasks.add_task(stay, (queue,)).queue(names[queue]).eager(n % 5 < 2);
                handles.push(add.await.unwrap());
            }
            wait_for_all(handles).await;
        })
    });
    for adder in adders.collect::<Vec<_>>() {
        adder.await.unwrap();
    }
    (scene.peaks[1].highest(), scene.peaks[2].highest())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_limit_is_ever_exceeded_and_each_is_used() {
    for place in Place::each() {
        assert_eq!(highest(&place, 5).await, (2, 5));
        let (in_other, in_all) = highest(&place, 64).await;
        assert!(in_other == 2 && in_all <= 64, "{in_other} in `other`, {in_all} in all");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_synchronous_tasks_run_than_there_are_threads() {
    for place in Place::each() {
        let (builder, scene) = scene(&place);
        let tasks = builder.max_concurrent_tasks(6).max_blocking_threads(2).start().await.unwrap();
        let mut handles = tasks.add_all((0..60).map(|_| tasks.add_task(stay_sync, (0,)))).await.unwrap();
        handles.extend(tasks.add_all((0..60).map(|_| tasks.add_task(stay, (1,)))).await.unwrap());
        for _ in 0..20 {
            handles.push(tasks.add_task(stay_sync, (0,)).await.unwrap());
        }
        wait_for_all(handles).await;
        assert_eq!(scene.peaks[0].highest(), 2, "synchronous ones");
        assert!(scene.peaks[1].highest() <= 6, "async ones");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn async_tasks_pass_synchronous_ones_that_wait_for_a_thread() {
    for place in Place::each() {
        let (builder, scene) = scene(&place);
        let tasks = builder.max_concurrent_tasks(4).max_blocking_threads(1).start().await.unwrap();
        let waiting =
            tasks.add_all((0..200).map(|_| tasks.add_task(block_sync, ()).priority(5))).await.unwrap();
        scene.gate.reached(1).await;
        let passing = tasks.add_all((0..20).map(|n| tasks.add_task(note, (n,)))).await.unwrap();
        wait_for_all(passing).await;
        assert_eq!(scene.gate.count(), 1);
        scene.gate.open();
        wait_for_all(waiting).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn synchronous_tasks_get_their_turn_among_async_ones() {
    for place in Place::each() {
        let (builder, scene) = scene(&place);
        let tasks = builder.max_concurrent_tasks(2).max_blocking_threads(1).start().await.unwrap();
        for _ in 0..2 {
            tasks.add_task(block, ()).await.unwrap();
        }
        scene.gate.reached(2).await;
        let sync = tasks.add_task(stay_sync, (0,)).priority(1).await.unwrap();
        let mut handles = tasks.add_all((0..50).map(|n| tasks.add_task(note, (n,)))).await.unwrap();
        handles.push(sync);
        scene.gate.open();
        wait_for_all(handles).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_paused_queue_is_started_by_anybody_until_it_is_resumed() {
    for place in Place::each() {
        let (builder, scene) = scene(&place);
        let tasks = builder.start().await.unwrap();
        tasks.pause_queue("other").await.unwrap();
        let paused = tasks.add_task(note, (1,)).queue("other").await.unwrap();
        let eager = tasks.add_task(note, (2,)).queue("other").eager(true).await.unwrap();
        soon(tasks.add_task(note, (3,)).await.unwrap().wait()).await.unwrap();
        let queues = tasks.queues().await.unwrap();
        let other = queues.iter().find(|queue| queue.name == "other").unwrap();
        assert!(other.paused && other.pending == 2, "{other:?}");
        for handle in [&paused, &eager] {
            assert_eq!(record(&tasks, handle.id()).await.status, TaskStatus::Pending);
        }
        let (elsewhere, _) = self::scene(&place);
        elsewhere.connect().await.unwrap().resume_queue("other").await.unwrap();
        wait_for_all(vec![paused, eager]).await;
        assert_eq!(scene.notes.read().len(), 3);
        let error = tasks.pause_queue("othr").await.unwrap_err().to_string();
        assert!(error.contains("did you mean `other`"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_named_twice_has_one_limit() {
    for place in Place::each() {
        let (builder, scene) = scene(&place);
        let builder = builder.queue("other", QueueConfig::new().concurrency(1));
        let tasks = builder.run_queues(["other", "other"]).start().await.unwrap();
        let batch = (0..20).map(|_| tasks.add_task(stay, (1,)).queue("other"));
        wait_for_all(tasks.add_all(batch).await.unwrap()).await;
        assert_eq!(scene.peaks[1].highest(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_runs_the_queues_and_the_tasks_it_was_told_to() {
    for place in Place::each() {
        let start = async |change: fn(TaskManagerBuilder) -> TaskManagerBuilder| -> (TaskManager, Scene) {
            let (builder, scene) = scene(&place);
            (change(builder).start().await.unwrap(), scene)
        };
        let (others, at_others) = start(|builder| builder.run_queues(["other"])).await;
        let (stays, at_stays) = start(|builder| builder.only(["stay"]).run_queues(["default"])).await;
        let batch = others
            .add_all([
                others.add_task(note, (1,)).queue("other").into_new_task(),
                others.add_task(stay, (0,)).into_new_task(),
                others.add_task(note, (2,)).into_new_task(),
            ])
            .await
            .unwrap();
        for handle in &batch[..2] {
            soon(handle.wait()).await.unwrap();
        }
        assert_eq!((at_others.notes.read(), at_stays.peaks[0].highest()), (vec![1], 1));
        assert_eq!(record(&stays, batch[2].id()).await.status, TaskStatus::Pending, "nobody runs it");
    }
}
