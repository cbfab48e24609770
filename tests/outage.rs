//! The store is away or slow: adds report it in time, and results are written when it is back.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

use std::sync::Arc;
use std::time::Duration;

use taskflow::testing::{Fault, Op, TestTasks};
use taskflow::{AddError, LogLevel, State, TaskContext, TaskHandle, TaskStatus};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Each body waits for a permit and keeps it.
type Gate = Arc<Semaphore>;

#[taskflow::task]
async fn block(State(gate): State<Gate>, context: TaskContext) {
    let _inside = gate.clone();
    context.log(LogLevel::Info, "first");
    gate.acquire().await.unwrap().forget();
    context.log(LogLevel::Info, "last");
}

async fn start() -> (TestTasks, Gate) {
    let gate = Gate::new(Semaphore::new(0));
    let t = TestTasks::new().live().state(gate.clone()).patience(Duration::ZERO);
    let t = t.configure(|tasks| {
        let tasks = tasks.max_concurrent_tasks(64).add_timeout(Duration::from_millis(200));
        tasks.lease(Duration::from_secs(6))
    });
    (t.start().await, gate)
}

fn add(t: &TestTasks) -> JoinHandle<Result<TaskHandle<()>, AddError>> {
    tokio::spawn(t.manager().add_task(block, ()).into_future())
}

/// The answer of an add, if it has one by now.
async fn answer(add: JoinHandle<Result<TaskHandle<()>, AddError>>) -> Result<TaskHandle<()>, AddError> {
    assert!(add.is_finished(), "it has no answer yet");
    add.await.unwrap()
}

fn running(t: &TestTasks) -> usize {
    t.records().iter().filter(|task| task.status == TaskStatus::Running).count()
}

async fn lines(t: &TestTasks, task: &TaskHandle<()>) -> Vec<String> {
    t.logs(task).await.into_iter().map(|line| line.message).collect()
}

#[tokio::test]
async fn an_add_waits_for_a_store_that_comes_back() {
    let (t, _) = start().await;
    t.fault(Fault::away());
    let add = add(&t);
    t.advance("50ms").await;
    assert!(!add.is_finished());
    t.back();
    t.advance("149ms").await;
    let task = answer(add).await.unwrap();
    t.advance("1s").await;
    assert_eq!(t.record(&task).status, TaskStatus::Running);
}

#[tokio::test]
async fn an_add_fails_in_time_when_the_store_stays_away_and_nothing_is_stored() {
    let (t, gate) = start().await;
    t.fault(Fault::away());
    let mut adds = Vec::new();
    for _ in 0..5 {
        adds.push(add(&t));
        t.advance("30ms").await;
    }
    t.advance("49ms").await;
    for add in adds {
        assert!(!add.is_finished(), "its 200 ms are not over");
        t.advance("2ms").await;
        let error = answer(add).await.unwrap_err();
        assert!(matches!(error, AddError::Store(_)) && error.is_transient(), "{error}");
        assert!(error.to_string().contains("the test took the store away"), "{error}");
        t.advance("28ms").await;
    }
    let health = t.manager().health();
    assert!(!health.is_healthy() && health.store_errors > 0);
    assert_eq!(health.reason.as_deref(), Some("the test took the store away"));

    t.back();
    t.advance("10s").await;
    assert!(t.manager().health().is_healthy());
    assert_eq!(t.records().len(), 0);
    // Every slot is free again: 64 tasks begin at once.
    t.manager().add_all((0..65).map(|_| t.manager().add_task(block, ()))).await.unwrap();
    t.advance("1ms").await;
    assert_eq!(running(&t), 64);
    gate.add_permits(65);
    t.advance("1s").await;
    assert!(t.records().iter().all(|task| task.status == TaskStatus::Success));
}

#[tokio::test]
async fn a_run_that_a_silent_store_ended_says_so() {
    let (t, gate) = start().await;
    let nobody = Arc::strong_count(&gate);
    let task = t.manager().add_task(block, ()).await.unwrap();
    t.advance("1s").await;
    assert!(running(&t) == 1 && Arc::strong_count(&gate) > nobody);
    t.fault(Fault::delay(Op::Any, "1m").always());
    t.advance("10s").await;
    assert_eq!(Arc::strong_count(&gate), nobody, "its body has been stopped");
    assert_eq!(t.manager().health().reason.as_deref(), Some("the store does not answer"));
    t.back();
    t.advance("2m").await;
    let task = t.record(&task);
    assert_eq!(task.status, TaskStatus::Interrupted);
    let error = task.error.unwrap();
    // Which of the two it is depends on whether the store noticed first.
    assert!(error.contains("lease could not be renewed") || error.contains("worker lost"), "{error}");
}

#[tokio::test]
async fn an_add_whose_answer_does_not_come_is_unknown_in_time_and_may_be_looked_up() {
    let (t, _) = start().await;
    t.fault(Fault::delay(Op::Insert, "5s"));
    let first = add(&t);
    t.advance("30ms").await;
    let second = add(&t);
    t.advance("169ms").await;
    assert!(!first.is_finished());
    t.advance("2ms").await;
    let Err(AddError::Unknown { id, .. }) = answer(first).await else { panic!("the first must be unknown") };
    t.advance("30ms").await;
    // This add was never sent.
    assert!(matches!(answer(second).await, Err(AddError::Store(_))));
    assert!(t.manager().get(id).await.unwrap().is_none());
    t.advance("5s").await;
    assert_eq!(t.record(id).status, TaskStatus::Running, "what was on its way is stored");
    assert_eq!(t.records().len(), 1);
}

/// A panic of the program drops its runtime, and the writers with it.
#[tokio::test]
#[should_panic(expected = "the panic of the program")]
async fn a_program_that_panics_while_adds_wait_ends_with_its_own_panic() {
    let (t, _) = start().await;
    t.fault(Fault::away());
    let _adds: Vec<_> = (0..10).map(|_| add(&t)).collect();
    t.advance("100ms").await;
    let _more: Vec<_> = (0..10).map(|_| add(&t)).collect();
    tokio::task::yield_now().await;
    panic!("the panic of the program");
}

#[tokio::test]
async fn what_ended_during_an_outage_is_written_after_it_with_all_it_said() {
    let (t, gate) = start().await;
    t.fault(Fault::error(Op::Report).always());
    let task = t.manager().add_task(block, ()).await.unwrap();
    t.advance("500ms").await;
    t.fault(Fault::away());
    gate.add_permits(1);
    t.advance("1s").await;
    assert_eq!((t.record(&task).status, lines(&t, &task).await.len()), (TaskStatus::Running, 0));
    t.back();
    t.advance("10s").await;
    assert_eq!(t.record(&task).status, TaskStatus::Success);
    assert_eq!(lines(&t, &task).await, ["first", "last"]);
}

#[tokio::test]
async fn a_line_on_its_way_when_its_task_ends_arrives_before_the_end() {
    for length in ["1ms", "100ms", "1s", "4s"] {
        let (t, gate) = start().await;
        t.fault(Fault::delay(Op::Report, length).always());
        let task = t.manager().add_task(block, ()).await.unwrap();
        t.advance("600ms").await;
        gate.add_permits(1);
        t.advance("10s").await;
        assert_eq!(t.record(&task).status, TaskStatus::Success);
        assert_eq!(lines(&t, &task).await, ["first", "last"], "{length}");
    }
}
