//! How a task is tried again, and what its record shows.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use everywhere::everywhere;
use support::{Gate, Notes, Place, ends, eventually, record, soon};
use taskflow::{
    Attempt, AttemptOutcome, Error as TaskflowError, State, TaskContext, TaskError, TaskManager, TaskRecord,
    TaskStatus, model::TaskPhase,
};

/// An error with a cause.
#[derive(Debug)]
struct Unreachable(std::num::ParseIntError);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server cannot be reached")
    }
}

impl Error for Unreachable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn unreachable() -> Unreachable {
    Unreachable("x".parse::<u8>().unwrap_err())
}

#[derive(Debug)]
struct Silent;

impl fmt::Display for Silent {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

#[taskflow::task(retries = 3, delay = "40ms", backoff = 2.0, jitter = 0.1)]
async fn succeed_at(context: TaskContext, attempt: u32) -> Result<u32, Unreachable> {
    if context.attempt() < attempt { Err(unreachable()) } else { Ok(context.attempt()) }
}

#[taskflow::task(retries = 5, delay = "1ms")]
async fn abort() -> Result<(), TaskError> {
    Err(TaskError::abort("the card was declined"))
}

#[taskflow::task(retries = 1, delay = "1h")]
async fn retry_soon() -> Result<(), TaskError> {
    Err(TaskError::retry_in(Duration::from_millis(60), "rate limited"))
}

#[taskflow::task]
async fn snooze_twice(State(notes): State<Notes<u32>>, context: TaskContext) -> Result<(), TaskError> {
    notes.write(context.attempt());
    if notes.read().len() < 3 { Err(TaskError::snooze(Duration::from_millis(30))) } else { Ok(()) }
}

#[taskflow::task(max_snoozes = 3)]
async fn never_ready() -> Result<(), TaskError> {
    Err(TaskError::snooze(Duration::from_millis(1)))
}

#[taskflow::task(retries = 1)]
async fn postpone(snooze: bool) -> Result<(), TaskError> {
    Err(if snooze { TaskError::snooze(Duration::MAX) } else { TaskError::retry_in(Duration::MAX, "no") })
}

#[expect(clippy::ptr_arg, reason = "the error of that task is a `String`")]
fn is_temporary(error: &String) -> bool {
    error.starts_with("temporary")
}

#[taskflow::task(retries = 2, delay = "1ms", retry_if = is_temporary)]
async fn pick(error: String) -> Result<(), String> {
    Err(error)
}

#[taskflow::task(retries = 1, delay = "1ms")]
async fn panic_async() {
    panic!("async {}", "boom");
}

#[taskflow::task]
fn panic_sync() -> Result<(), String> {
    panic!("sync boom");
}

/// Its drop panics, with another value of this type.
struct Endless;

impl Drop for Endless {
    fn drop(&mut self) {
        std::panic::panic_any(Self);
    }
}

#[taskflow::task]
async fn panic_without_end() {
    std::panic::panic_any(Endless);
}

#[taskflow::task(retries = 1, delay = "1ms")]
async fn complain() -> Result<(), String> {
    Err("é".repeat(1 << 20))
}

#[taskflow::task(timeout = "50ms")]
async fn hang(State(gate): State<Gate>) {
    struct OnDrop(Gate);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.note();
        }
    }
    let _guard = OnDrop(gate);
    std::future::pending::<()>().await;
}

#[taskflow::task(timeout = "50ms")]
fn hang_sync(State(gate): State<Gate>, context: TaskContext) {
    while !context.is_cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
    gate.pass_blocking();
}

#[taskflow::task(retries = 1, delay = "1ms")]
async fn silent() -> Result<(), Silent> {
    Err(Silent)
}

#[taskflow::task(retries = 1, delay = "1h")]
async fn fail() -> Result<(), String> {
    Err("no".to_owned())
}

#[taskflow::task]
async fn ping() {}

async fn start(place: &Place) -> (TaskManager, Gate, Notes<u32>) {
    let (gate, notes) = (Gate::default(), Notes::default());
    let builder = place.builder().state(gate.clone()).state(notes.clone());
    (builder.max_concurrent_tasks(1).start().await.unwrap(), gate, notes)
}

fn outcomes(task: &TaskRecord) -> Vec<(u32, AttemptOutcome)> {
    task.attempts.iter().map(|attempt| (attempt.number, attempt.outcome)).collect()
}

fn ended(attempt: &Attempt) -> SystemTime {
    attempt.finished_at.expect("it has ended")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_is_recorded_and_waits_longer_than_the_last() {
    use AttemptOutcome::{Failed, Success};
    for place in everywhere() {
        let (tasks, ..) = start(&place).await;
        let handle = tasks.add_task(succeed_at, (4,)).await.unwrap();
        assert_eq!(soon(handle.wait()).await.unwrap(), 4);
        let task = record(&tasks, handle.id()).await;
        assert_eq!(outcomes(&task), [(1, Failed), (2, Failed), (3, Failed), (4, Success)]);
        assert_eq!((task.attempt, task.max_attempts, task.error.as_deref()), (4, 4, None));
        for (at, pair) in task.attempts.windows(2).enumerate() {
            let waited = pair[1].started_at.duration_since(ended(&pair[0])).unwrap();
            let nominal = Duration::from_millis(40 << at);
            assert!(waited >= nominal.mul_f64(0.9), "attempt {}: {waited:?}", at + 2);
            assert!(
                waited < nominal.mul_f64(1.1) + Duration::from_millis(500),
                "attempt {}: {waited:?}",
                at + 2
            );
            let expected = "the server cannot be reached: invalid digit found in string";
            assert_eq!(pair[0].error.as_deref(), Some(expected));
        }
        let attempt = &task.attempts[0];
        assert_eq!(attempt.pid, std::process::id());
        assert!(!attempt.host.is_empty());
        assert_eq!(task.started_at, Some(task.attempts[3].started_at));
        assert_eq!(task.finished_at, task.attempts[3].finished_at);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn between_attempts_it_waits_without_a_slot() {
    for place in everywhere() {
        let (tasks, ..) = start(&place).await;
        let failing = tasks.add_task(fail, ()).await.unwrap();
        let waiting = eventually("it waits for its retry", || async {
            Some(record(&tasks, failing.id()).await).filter(|task| task.phase() == TaskPhase::Retrying)
        });
        let task = waiting.await;
        assert_eq!((task.status, task.attempt, task.error.as_deref()), (TaskStatus::Pending, 1, Some("no")));
        // Another task runs in the only slot.
        soon(tasks.add_task(ping, ()).await.unwrap().wait()).await.unwrap();
        assert_eq!(record(&tasks, failing.id()).await.status, TaskStatus::Pending);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_without_attempts_left_has_failed_with_the_whole_chain() {
    for place in everywhere() {
        let (tasks, ..) = start(&place).await;
        let handle =
            tasks.add_task(succeed_at, (99,)).retries(1).delay(Duration::from_millis(1)).await.unwrap();
        let failure = soon(handle.wait()).await.unwrap_err();
        let chain = "the server cannot be reached: invalid digit found in string";
        assert_eq!((failure.status(), failure.message()), (TaskStatus::Failed, chain));
        let task = record(&tasks, handle.id()).await;
        assert_eq!(outcomes(&task), [(1, AttemptOutcome::Failed), (2, AttemptOutcome::Failed)]);
        assert_eq!(task.error.as_deref(), Some(chain));
        assert!(task.result.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_steers_what_comes_after_it() {
    for place in everywhere() {
        let (tasks, _, notes) = start(&place).await;
        let aborted = ends(&tasks, tasks.add_task(abort, ()).await.unwrap().id()).await;
        assert_eq!((aborted.status, aborted.attempts.len()), (TaskStatus::Failed, 1));
        assert_eq!(aborted.error.as_deref(), Some("the card was declined"));

        let retried = ends(&tasks, tasks.add_task(retry_soon, ()).await.unwrap().id()).await;
        assert_eq!((retried.status, retried.attempts.len()), (TaskStatus::Failed, 2));
        let waited = retried.attempts[1].started_at.duration_since(ended(&retried.attempts[0])).unwrap();
        assert!(waited >= Duration::from_millis(60), "{waited:?}");

        let snoozed = ends(&tasks, tasks.add_task(snooze_twice, ()).await.unwrap().id()).await;
        assert_eq!((snoozed.status, snoozed.attempt, snoozed.max_attempts), (TaskStatus::Success, 1, 1));
        assert_eq!(notes.read(), [1, 1, 1]);
        use AttemptOutcome::{Snoozed, Success};
        assert_eq!(outcomes(&snoozed), [(1, Snoozed), (1, Snoozed), (1, Success)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_never_ready_fails_in_the_end() {
    use AttemptOutcome::{Failed, Snoozed};
    for place in everywhere() {
        let (tasks, _, _) = start(&place).await;
        let failed = ends(&tasks, tasks.add_task(never_ready, ()).await.unwrap().id()).await;
        assert_eq!(failed.status, TaskStatus::Failed);
        assert!(failed.error.as_deref().unwrap().contains("snoozed 3 times"), "{:?}", failed.error);
        assert_eq!(outcomes(&failed), [(1, Snoozed), (1, Snoozed), (1, Snoozed), (1, Failed)]);
        assert_eq!(failed.snoozes, 3);
        let by_add = tasks.add_task(never_ready, ()).max_snoozes(0).await.unwrap();
        assert_eq!(outcomes(&ends(&tasks, by_add.id()).await), [(1, Failed)]);
        tasks.retry(by_add.id()).await.unwrap();
        assert_eq!(outcomes(&ends(&tasks, by_add.id()).await), [(1, Failed), (2, Failed)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_beyond_every_clock_harms_nobody() {
    for place in everywhere() {
        let builder = place.builder().state(Gate::default()).state(Notes::<u32>::default());
        let tasks = builder.add_timeout(Duration::MAX).max_concurrent_tasks(1).start().await.unwrap();
        for snooze in [true, false] {
            let handle = tasks.add_task(postpone, (snooze,)).await.unwrap();
            eventually("it is put off", || async {
                let task = record(&tasks, handle.id()).await;
                (task.status == TaskStatus::Pending && task.attempts.len() == 1).then_some(())
            })
            .await;
        }
        let century = Duration::from_secs(36_525 * 86_400);
        let patient = tasks
            .add_task(ping, ())
            .timeout(Duration::MAX)
            .delay(century)
            .max_delay(Duration::MAX)
            .retries(u32::MAX);
        soon(patient.await.unwrap().wait()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_if_decides_which_errors_are_worth_it() {
    let (tasks, ..) = start(&Place::memory()).await;
    let attempts = async |error: &str| {
        let handle = tasks.add_task(pick, (error.to_owned(),)).await.unwrap();
        ends(&tasks, handle.id()).await.attempts.len()
    };
    assert_eq!(attempts("temporary: busy").await, 3);
    assert_eq!(attempts("for good").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_failure_with_its_message_and_place() {
    for place in everywhere() {
        let (tasks, ..) = start(&place).await;
        let task = ends(&tasks, tasks.add_task(panic_async, ()).await.unwrap().id()).await;
        use AttemptOutcome::Panicked;
        assert_eq!(outcomes(&task), [(1, Panicked), (2, Panicked)]);
        let error = task.error.unwrap();
        assert!(error.contains("async boom") && error.contains("retries.rs:"), "{error}");

        let task = ends(&tasks, tasks.add_task(panic_sync, ()).await.unwrap().id()).await;
        let error = task.error.unwrap();
        assert!(error.contains("sync boom") && error.contains("retries.rs:"), "{error}");
        soon(tasks.add_task(ping, ()).await.unwrap().wait()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_with_a_value_that_panics_costs_no_slot() {
    for place in everywhere() {
        let (tasks, ..) = start(&place).await;
        let task = ends(&tasks, tasks.add_task(panic_without_end, ()).await.unwrap().id()).await;
        assert_eq!(outcomes(&task), [(1, AttemptOutcome::Panicked)]);
        soon(tasks.add_task(ping, ()).await.unwrap().wait()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_endless_error_the_beginning_is_kept() {
    for place in everywhere() {
        let (tasks, ..) = start(&place).await;
        let task = ends(&tasks, tasks.add_task(complain, ()).await.unwrap().id()).await;
        assert_eq!(task.attempts.len(), 2);
        for error in task.attempts.iter().map(|attempt| &attempt.error).chain([&task.error]) {
            let error = error.as_deref().unwrap();
            assert!(error.len() < 70_000 && error.starts_with("ééé"), "{} bytes", error.len());
            assert!(error.ends_with("(cut off: it is 2097152 bytes)"), "it does not say so");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_async_task_past_its_timeout_is_dropped() {
    for place in everywhere() {
        let (tasks, gate, _) = start(&place).await;
        let task = ends(&tasks, tasks.add_task(hang, ()).await.unwrap().id()).await;
        assert_eq!(gate.count(), 1);
        assert_eq!((task.status, outcomes(&task)), (TaskStatus::Failed, vec![(1, AttemptOutcome::TimedOut)]));
        assert!(task.error.as_deref().unwrap().contains("50ms"), "{:?}", task.error);
        let took = ended(&task.attempts[0]).duration_since(task.attempts[0].started_at).unwrap();
        assert!(took >= Duration::from_millis(50), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_task_past_its_timeout_is_asked_and_keeps_its_slot() {
    for place in everywhere() {
        let (tasks, gate, _) = start(&place).await;
        let handle = tasks.add_task(hang_sync, ()).await.unwrap();
        gate.reached(1).await;
        let waiting = tasks.add_task(ping, ()).await.unwrap();
        assert_eq!(record(&tasks, handle.id()).await.status, TaskStatus::Running);
        assert_eq!(record(&tasks, waiting.id()).await.status, TaskStatus::Pending);
        eventually("it is seen to overrun", || async {
            (record(&tasks, handle.id()).await.phase() == TaskPhase::Overrunning).then_some(())
        })
        .await;
        gate.open();
        let task = ends(&tasks, handle.id()).await;
        assert_eq!(outcomes(&task), [(1, AttemptOutcome::TimedOut)]);
        soon(waiting.wait()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_without_a_text_is_named_by_its_type() {
    let (tasks, ..) = start(&Place::memory()).await;
    let task = ends(&tasks, tasks.add_task(silent, ()).await.unwrap().id()).await;
    assert!(task.error.as_deref().unwrap().ends_with("Silent"), "{:?}", task.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_retry_reopens_the_record_with_as_many_attempts_again() {
    for place in everywhere() {
        let (tasks, ..) = start(&place).await;
        let handle = tasks.add_task(silent, ()).await.unwrap();
        assert_eq!(ends(&tasks, handle.id()).await.attempts.len(), 2);
        tasks.retry(handle.id()).await.unwrap();
        let again = eventually("it failed again", || async {
            Some(record(&tasks, handle.id()).await)
                .filter(|task| task.attempts.len() == 4 && task.status.is_final())
        });
        let task = again.await;
        assert_eq!((task.attempt, task.max_attempts, task.status), (4, 4, TaskStatus::Failed));
        assert_eq!(task.attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_ended_badly_can_be_retried() {
    for place in everywhere() {
        let (tasks, ..) = start(&place).await;
        let handle = tasks.add_task(ping, ()).await.unwrap();
        soon(handle.wait()).await.unwrap();
        let error = tasks.retry(handle.id()).await.unwrap_err();
        assert!(matches!(error, TaskflowError::NotRetryable { status: TaskStatus::Success, .. }), "{error}");
        let stranger = taskflow::TaskId::new();
        assert!(matches!(tasks.retry(stranger).await, Err(TaskflowError::NotFound { id }) if id == stranger));
    }
}
