//! What middleware sees and may change, and that timeouts, cancels and shutdowns work as they do without it.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "middleware/stops.rs"]
mod stops;
mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{DEADLINE, Gate, Notes, Peak, Place, ends, eventually, reaches, soon};
use taskflow::observe::{BoxFuture, Middleware, Next, Run, RunOutcome};
use taskflow::store::{Finish, FinishKind, Finished, RunRef};
use taskflow::task::ContextError;
use taskflow::{
    AttemptOutcome, FromContext, LogLevel, State, TaskContext, TaskError, TaskManager, TaskRecord, TaskStatus,
};

/// A middleware made of a function.
struct Around<F>(F);

impl<F> Middleware for Around<F>
where
    F: for<'a> Fn(&'a Run, Next<'a>) -> BoxFuture<'a, RunOutcome> + Send + Sync + 'static,
{
    fn run<'a>(&'a self, run: &'a Run, next: Next<'a>) -> BoxFuture<'a, RunOutcome> {
        (self.0)(run, next)
    }
}

/// Binds the lifetimes of a closure.
fn around<F>(f: F) -> Around<F>
where
    F: for<'a> Fn(&'a Run, Next<'a>) -> BoxFuture<'a, RunOutcome> + Send + Sync + 'static,
{
    Around(f)
}

/// Records its beginning, and how the inner part ended.
struct Noting(&'static str, Notes<String>);

impl Middleware for Noting {
    fn run<'a>(&'a self, _: &'a Run, next: Next<'a>) -> BoxFuture<'a, RunOutcome> {
        Box::pin(async move {
            self.1.write(format!("{} begins", self.0));
            let outcome = next.run().await;
            self.1.write(format!("{} {:?}", self.0, outcome.outcome()));
            outcome
        })
    }
}

/// Middleware of a task, which notes through the log of the task.
struct Inner(&'static str);

static SECOND: Inner = Inner("second");

impl Middleware for Inner {
    fn run<'a>(&'a self, _: &'a Run, next: Next<'a>) -> BoxFuture<'a, RunOutcome> {
        Box::pin(async move {
            let context = TaskContext::current().unwrap();
            context.extension::<Notes<String>>().unwrap().write(format!("{} begins", self.0));
            let outcome = next.run().await;
            context.extension::<Notes<String>>().unwrap().write(format!(
                "{} {:?}",
                self.0,
                outcome.outcome()
            ));
            outcome
        })
    }
}

const FIRST: Inner = Inner("first");

#[taskflow::task(middleware = [FIRST, SECOND], retries = 1, delay = "1ms")]
async fn layered(State(notes): State<Notes<String>>, error: Option<String>) -> Result<u32, String> {
    notes.write("the body".to_owned());
    error.map_or(Ok(7), Err)
}

#[taskflow::task(middleware = [FIRST, SECOND], retries = 1, delay = "1ms")]
fn layered_sync(State(notes): State<Notes<String>>, error: Option<String>) -> Result<u32, String> {
    notes.write("the body".to_owned());
    error.map_or(Ok(7), Err)
}

#[taskflow::task]
async fn plain(State(notes): State<Notes<String>>) -> Result<u32, TaskError> {
    notes.write("the body".to_owned());
    Ok(7)
}

#[taskflow::task]
fn plain_sync(State(notes): State<Notes<String>>) -> Result<u32, TaskError> {
    notes.write("the body".to_owned());
    Ok(7)
}

#[taskflow::task]
async fn fails() -> Result<u32, TaskError> {
    Err("no luck".parse::<u32>().unwrap_err().into())
}

#[taskflow::task]
async fn panics() {
    panic!("in the body");
}

#[taskflow::task]
fn panics_sync() {
    panic!("in the body");
}

#[taskflow::task(timeout = "20ms")]
async fn hangs() {
    std::future::pending::<()>().await;
}

#[taskflow::task(timeout = "20ms")]
fn hangs_sync(context: TaskContext) {
    while !context.is_cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[taskflow::task(requeue_on_interrupt)]
async fn waits(State(gate): State<Gate>) {
    gate.pass().await;
}

/// It ignores every request to stop.
#[taskflow::task(retries = 1, delay = "0s")]
fn waits_sync(State(gate): State<Gate>, State(peak): State<Peak>) {
    peak.enter();
    gate.pass_blocking();
    peak.leave();
}

struct Greeting(Arc<String>);

impl FromContext for Greeting {
    fn from_context(context: &TaskContext) -> Result<Self, ContextError> {
        context.extension().map(Self).ok_or_else(|| ContextError::new("nobody greets"))
    }
}

#[taskflow::task]
async fn greeted(#[inject] greeting: Greeting, context: TaskContext) -> Result<String, String> {
    assert!(context.extension::<u8>().is_none());
    Ok(greeting.0.to_string())
}

#[taskflow::task]
fn greeted_sync(#[inject] greeting: Greeting) -> Result<String, String> {
    Ok(greeting.0.to_string())
}

struct Bench {
    tasks: TaskManager,
    notes: Notes<String>,
    gate: Gate,
    peak: Peak,
}

/// Starts a manager with this middleware inside two that note.
async fn start(place: &Place, inner: impl Middleware, grace: Duration) -> Bench {
    start_noting(place, Notes::default(), inner, grace).await
}

async fn start_noting(place: &Place, notes: Notes<String>, inner: impl Middleware, grace: Duration) -> Bench {
    let (gate, peak) = (Gate::default(), Peak::default());
    let shared = notes.clone();
    let tasks = place
        .builder()
        .state(notes.clone())
        .state(gate.clone())
        .state(peak.clone())
        .cancel_grace(grace)
        .middleware(around(move |run, next| {
            run.extensions().insert(shared.clone());
            next.run()
        }))
        .middleware(Noting("outer", notes.clone()))
        .middleware(inner)
        .start()
        .await
        .unwrap();
    Bench { tasks, notes, gate, peak }
}

/// Ends of the outer middleware, in order.
fn seen(notes: &Notes<String>) -> Vec<String> {
    notes.read().into_iter().filter(|note| note.starts_with("outer") && !note.ends_with("begins")).collect()
}

fn outcomes(task: &TaskRecord) -> Vec<AttemptOutcome> {
    task.attempts.iter().map(|attempt| attempt.outcome).collect()
}

const GRACE: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread")]
async fn the_first_is_the_outermost_and_those_of_a_task_are_inside() {
    for place in Place::each() {
        for is_sync in [false, true] {
            let notes = Notes::default();
            let inner = Noting("inner", notes.clone());
            let Bench { tasks, notes, .. } = start_noting(&place, notes, inner, GRACE).await;
            let add = if is_sync {
                tasks.add_task(layered_sync, (None,))
            } else {
                tasks.add_task(layered, (None,))
            };
            assert_eq!(soon(add.await.unwrap().wait()).await.unwrap(), 7);
            let expected = [
                "outer begins",
                "inner begins",
                "first begins",
                "second begins",
                "the body",
                "second Success",
                "first Success",
                "inner Success",
                "outer Success",
            ];
            assert_eq!(notes.read(), expected);
            tasks.shutdown(DEADLINE).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_passes_and_without_any_nothing_does() {
    for place in Place::each() {
        let Bench { tasks, notes, .. } = start(&place, around(|_, next| next.run()), GRACE).await;
        let handle = tasks.add_task(layered, (Some("no".to_owned()),)).await.unwrap();
        assert_eq!(ends(&tasks, handle.id()).await.error.as_deref(), Some("no"));
        assert_eq!(seen(&notes), ["outer Failed", "outer Failed"]);
        tasks.shutdown(DEADLINE).await.unwrap();
        let notes = Notes::<String>::default();
        let tasks = place.builder().state(notes.clone()).only(["plain"]).start().await.unwrap();
        soon(tasks.add_task(plain, ()).await.unwrap().wait()).await.unwrap();
        assert_eq!(notes.read(), ["the body"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_sees_the_task_and_its_arguments() {
    for place in Place::each() {
        let looks = around(|run, next| {
            Box::pin(async move {
                let seen = format!(
                    "{} {} {} {}/{} {:?} {}",
                    run.id(),
                    run.name(),
                    run.queue(),
                    run.attempt(),
                    run.max_attempts(),
                    run.tags(),
                    run.args()
                );
                TaskContext::current().unwrap().log(LogLevel::Info, seen);
                next.run().await
            })
        });
        let Bench { tasks, .. } = start(&place, looks, GRACE).await;
        for add in
            [tasks.add_task(layered, (Some("x".into()),)), tasks.add_task(layered_sync, (Some("x".into()),))]
        {
            let handle = add.tag("plan", "pro").await.unwrap();
            let name = ends(&tasks, handle.id()).await.name;
            let lines = tasks.logs(handle.id()).await.unwrap().unwrap();
            let seen: Vec<_> = lines.into_iter().map(|line| (line.attempt, line.message)).collect();
            let line = |attempt| {
                let rest = r#"{"plan": "pro"} {"error":"x"}"#;
                (attempt, format!("{} {name} default {attempt}/2 {rest}", handle.id()))
            };
            assert_eq!(seen, [line(1), line(2)]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_reads_the_values_that_it_puts_in() {
    for place in Place::each() {
        let greets = around(|run, next| {
            run.extensions().insert(format!("hello, {}", run.name()));
            next.run()
        });
        let Bench { tasks, .. } = start(&place, greets, GRACE).await;
        for (add, name) in
            [(tasks.add_task(greeted, ()), "greeted"), (tasks.add_task(greeted_sync, ()), "greeted_sync")]
        {
            assert_eq!(soon(add.await.unwrap().wait()).await.unwrap(), format!("hello, {name}"));
        }
        tasks.shutdown(DEADLINE).await.unwrap();
        let without = place.builder().only(["greeted"]).start().await.unwrap();
        let error = soon(without.add_task(greeted, ()).await.unwrap().wait()).await.unwrap_err();
        assert!(error.message().contains("nobody greets"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_panics_and_timeouts_come_as_outcomes() {
    for place in Place::each() {
        let Bench { tasks, notes, .. } = start(&place, around(|_, next| next.run()), GRACE).await;
        for (id, outcome, error) in [
            (tasks.add_task(fails, ()).await.unwrap().id(), AttemptOutcome::Failed, "invalid digit"),
            (tasks.add_task(panics, ()).await.unwrap().id(), AttemptOutcome::Panicked, "in the body"),
            (tasks.add_task(panics_sync, ()).await.unwrap().id(), AttemptOutcome::Panicked, "in the body"),
            (tasks.add_task(hangs, ()).await.unwrap().id(), AttemptOutcome::TimedOut, "timeout of 20ms"),
            (tasks.add_task(hangs_sync, ()).await.unwrap().id(), AttemptOutcome::TimedOut, "timeout of 20ms"),
        ] {
            let task = ends(&tasks, id).await;
            assert_eq!((task.status, outcomes(&task)), (TaskStatus::Failed, vec![outcome]));
            assert!(task.error.as_deref().unwrap().contains(error), "{task:?}");
            eventually("it was seen", || async {
                seen(&notes).contains(&format!("outer {outcome:?}")).then_some(())
            })
            .await;
        }
        assert_eq!(seen(&notes).len(), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_can_be_retried_aborted_or_snoozed() {
    for place in Place::each() {
        let decides = around(|run, next| {
            Box::pin(async move {
                let outcome = next.run().await;
                match (run.name(), run.attempt(), TaskContext::current().unwrap().scheduled_for()) {
                    ("hangs", ..) => outcome.then_retry_in(Duration::ZERO),
                    ("layered", ..) => outcome.then_abort(),
                    ("panics", _, None) => outcome.then_snooze(Duration::from_millis(1)),
                    ("fails", ..) => RunOutcome::snooze(Duration::from_secs(3600)),
                    _ => outcome,
                }
            })
        });
        let Bench { tasks, .. } = start(&place, decides, GRACE).await;
        let retried = tasks.add_task(hangs, ()).retries(1).delay(Duration::from_secs(3600)).await.unwrap();
        let aborted = tasks.add_task(layered, (Some("no".into()),)).await.unwrap();
        let snoozed = tasks.add_task(fails, ()).await.unwrap();
        let task = ends(&tasks, retried.id()).await;
        assert_eq!(outcomes(&task), [AttemptOutcome::TimedOut; 2]);
        let task = ends(&tasks, aborted.id()).await;
        assert_eq!((task.error.as_deref(), outcomes(&task)), (Some("no"), vec![AttemptOutcome::Failed]));
        let asleep = eventually("it was snoozed", || async {
            let task = support::record(&tasks, snoozed.id()).await;
            (task.snoozes == 1).then_some(task)
        });
        let task = asleep.await;
        assert_eq!((task.status, outcomes(&task)), (TaskStatus::Pending, vec![AttemptOutcome::Snoozed]));
        // A task snoozes at most as often as it allows.
        let often = tasks.add_task(panics, ()).max_snoozes(0).await.unwrap();
        let task = ends(&tasks, often.id()).await;
        assert!(task.error.as_deref().unwrap().contains("max_snoozes"), "{task:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_can_be_made_a_failure_and_a_failure_a_success() {
    for place in Place::each() {
        let turns = around(|_, next| {
            Box::pin(async move {
                let outcome = next.run().await;
                match outcome.result() {
                    Some("7") => RunOutcome::failure("seven is wrong"),
                    _ => RunOutcome::success(&8),
                }
            })
        });
        let Bench { tasks, .. } = start(&place, turns, GRACE).await;
        for add in [tasks.add_task(plain, ()), tasks.add_task(plain_sync, ())] {
            let error = soon(add.await.unwrap().wait()).await.unwrap_err();
            assert_eq!((error.status(), error.message()), (TaskStatus::Failed, "seven is wrong"));
        }
        assert_eq!(soon(tasks.add_task(fails, ()).await.unwrap().wait()).await.unwrap(), 8);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_next_the_attempt_ends_and_the_body_does_not_run() {
    for place in Place::each() {
        let skips = around(|run, next| {
            drop(next);
            let outcome = if run.tags().contains_key("ok") {
                RunOutcome::success(&41)
            } else {
                RunOutcome::abort("not today")
            };
            Box::pin(async move { outcome })
        });
        let Bench { tasks, notes, .. } = start(&place, skips, GRACE).await;
        let adds = || [tasks.add_task(plain, ()), tasks.add_task(plain_sync, ())];
        for add in adds() {
            assert_eq!(soon(add.tag("ok", "").await.unwrap().wait()).await.unwrap(), 41);
        }
        for add in adds() {
            let error = soon(add.retries(5).await.unwrap().wait()).await.unwrap_err();
            assert_eq!(error.message(), "not today");
        }
        assert!(!notes.read().contains(&"the body".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_panics_makes_a_panicked_attempt_that_the_outer_ones_see() {
    for place in Place::each() {
        let panics = around(|run, next| {
            assert!(run.tags().contains_key("later"), "at once");
            Box::pin(async move {
                assert!(!run.tags().contains_key("before"), "before the body");
                let outcome = next.run().await;
                assert!(!outcome.is_success(), "after the body");
                outcome
            })
        });
        let Bench { tasks, notes, .. } = start(&place, panics, GRACE).await;
        for (tags, text) in [
            (vec![], "at once"),
            (vec!["later", "before"], "before the body"),
            (vec!["later"], "after the body"),
        ] {
            for add in [tasks.add_task(plain, ()), tasks.add_task(plain_sync, ())] {
                let handle = add.tags(tags.iter().map(|tag| (*tag, ""))).await.unwrap();
                let task = ends(&tasks, handle.id()).await;
                assert_eq!(outcomes(&task), [AttemptOutcome::Panicked], "{text}");
                let error = task.error.unwrap();
                assert!(error.starts_with("panicked at tests/") && error.contains(text), "{error}");
            }
        }
        assert_eq!(seen(&notes), vec!["outer Panicked"; 6]);
        assert_eq!(notes.read().iter().filter(|note| *note == "the body").count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_do_not_decode_come_as_an_outcome_too() {
    for place in Place::each() {
        let Bench { tasks, notes, .. } = start(&place, around(|_, next| next.run()), GRACE).await;
        let junk = taskflow::NewTask::new("layered", Ok(r#"{"error":5}"#.into()));
        let handle = tasks.add_all([junk]).await.unwrap().remove(0);
        let task = ends(&tasks, handle.id()).await;
        assert!(task.error.as_deref().unwrap().contains("error"), "{task:?}");
        assert_eq!(
            (outcomes(&task), seen(&notes)),
            (vec![AttemptOutcome::Failed], vec!["outer Failed".to_owned()])
        );
    }
}
