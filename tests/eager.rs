//! An eager task starts at once if a slot is free, and only then.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use support::{Gate, Notes, Place, eventually, record, soon};
use taskflow::{QueueConfig, State, TaskManagerBuilder, TaskStatus};

#[taskflow::task]
async fn block(State(gate): State<Gate>) {
    gate.pass().await;
}

#[taskflow::task]
fn block_sync(State(gate): State<Gate>) {
    gate.pass_blocking();
}

#[taskflow::task(eager)]
async fn note(State(notes): State<Notes<u32>>, n: u32) {
    notes.write(n);
}

fn builder(place: &Place) -> (TaskManagerBuilder, Gate, Notes<u32>) {
    let (gate, notes) = (Gate::default(), Notes::default());
    let builder = place.builder().state(gate.clone()).state(notes.clone());
    (builder.queue("narrow", QueueConfig::new().concurrency(1)), gate, notes)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eager_task_has_begun_when_its_add_is_answered() {
    for place in Place::each() {
        let (builder, ..) = builder(&place);
        let tasks = builder.start().await.unwrap();
        // The first claim reserves the slots until its answer arrives: a task added before that waits for the next claim.
        eventually("an add is answered when its task runs", || async {
            let handle = tasks.add_task(block, ()).eager(true).await.unwrap();
            let task = record(&tasks, handle.id()).await;
            ((task.status, task.attempt) == (TaskStatus::Running, 1)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eager_task_takes_a_free_slot_before_what_waits_in_its_queue() {
    for place in Place::each() {
        let (builder, gate, _) = builder(&place);
        // Slots are free, but two of these three tasks wait for the only thread.
        let tasks = builder.max_concurrent_tasks(4).max_blocking_threads(1).start().await.unwrap();
        let waiting =
            tasks.add_all((0..3).map(|_| tasks.add_task(block_sync, ()).priority(9))).await.unwrap();
        gate.reached(1).await;
        // A claim reserves the slots until its answer arrives, so the first task may have to wait for that.
        eventually("one was leased as it was stored", || async {
            let eager = tasks.add_task(note, (1,)).await.unwrap();
            let task = record(&tasks, eager.id()).await;
            (task.started_at == Some(task.created_at)).then_some(())
        })
        .await;
        assert_eq!(gate.count(), 1);
        gate.open();
        for handle in waiting {
            soon(handle.wait()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_slot_an_eager_task_waits_like_any_other() {
    for place in Place::each() {
        let (builder, gate, notes) = builder(&place);
        let tasks = builder.max_concurrent_tasks(1).start().await.unwrap();
        tasks.add_task(block, ()).await.unwrap();
        gate.reached(1).await;
        let eager = tasks.add_task(note, (1,)).await.unwrap();
        assert_eq!(record(&tasks, eager.id()).await.status, TaskStatus::Pending);
        assert!(notes.read().is_empty());
        gate.open();
        soon(eager.wait()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eager_task_never_exceeds_the_limit_of_its_queue() {
    for place in Place::each() {
        let (builder, gate, notes) = builder(&place);
        let tasks = builder.start().await.unwrap();
        tasks.add_task(block, ()).queue("narrow").await.unwrap();
        gate.reached(1).await;
        let eager = tasks.add_task(note, (1,)).queue("narrow").await.unwrap();
        soon(tasks.add_task(note, (2,)).await.unwrap().wait()).await.unwrap();
        assert_eq!(record(&tasks, eager.id()).await.status, TaskStatus::Pending);
        assert_eq!(notes.read(), [2]);
        gate.open();
        soon(eager.wait()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eager_task_waits_for_a_paused_queue_and_for_its_time() {
    for place in Place::each() {
        let (builder, _, notes) = builder(&place);
        let tasks = builder.start().await.unwrap();
        tasks.pause_queue("narrow").await.unwrap();
        let paused = tasks.add_task(note, (1,)).queue("narrow").await.unwrap();
        let hour = std::time::Duration::from_secs(3600);
        let delayed = tasks.add_task(note, (2,)).run_in(hour).await.unwrap();
        soon(tasks.add_task(note, (3,)).await.unwrap().wait()).await.unwrap();
        assert_eq!(notes.read(), [3]);
        for handle in [&paused, &delayed] {
            assert_eq!(record(&tasks, handle.id()).await.status, TaskStatus::Pending);
        }
        tasks.resume_queue("narrow").await.unwrap();
        soon(paused.wait()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_runs_nothing_starts_nothing_eager() {
    let place = Place::memory();
    let (builder, ..) = builder(&place);
    let tasks = builder.connect().await.unwrap();
    let handle = tasks.add_task(note, (1,)).await.unwrap();
    assert_eq!(record(&tasks, handle.id()).await.status, TaskStatus::Pending);
}
