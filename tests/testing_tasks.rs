//! The test kit: modes, assertions, and runs of single tasks.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use taskflow::model::AttemptOutcome;
use taskflow::testing::{Drain, TestCall, TestTasks, test};
use taskflow::web::Role;
use tower::ServiceExt;

use taskflow::{LogLevel, State, TaskContext, TaskError, TaskManager, TaskStatus};

#[derive(Clone, Default)]
struct Outbox(Arc<AtomicUsize>);

impl Outbox {
    fn sent(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[taskflow::task(retries = 3, delay = "1m", backoff = 1.0, jitter = 0.0)]
async fn send_email(to: String, subject: String, outbox: State<Outbox>) -> Result<(), String> {
    let _ = (to, subject);
    outbox.0.0.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

#[taskflow::task]
async fn charge_card(cents: u32) -> Result<u32, TaskError> {
    Ok(cents + 1)
}

#[taskflow::task]
async fn onboard(user: String, tasks: TaskManager) -> Result<(), TaskError> {
    tasks.add_task(send_email, (user.clone(), "Welcome".to_owned())).await?;
    tasks.add_task(charge_card, (100,)).run_in(Duration::from_secs(3600)).tag("user", &user).await?;
    Ok(())
}

#[taskflow::task]
async fn report(context: TaskContext) -> Result<String, TaskError> {
    context.log(LogLevel::Info, "half way");
    context.progress(0.5, "half");
    if context.attempt() < 2 {
        return Err(TaskError::abort("only the second attempt succeeds"));
    }
    Ok(format!("attempt {}", context.attempt()))
}

/// Fails in its first two attempts. The delays of its retries have the default jitter.
#[taskflow::task(retries = 2, delay = "5m")]
async fn again(after: String, context: TaskContext) -> Result<String, TaskError> {
    if context.attempt() < 3 {
        return Err(TaskError::from(std::io::Error::other(format!("{after} was too soon"))));
    }
    Ok(after)
}

/// The seconds until the deadline of its attempt.
#[taskflow::task]
async fn deadline(context: TaskContext) -> Result<Option<u64>, TaskError> {
    let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    Ok(context.deadline().map(|at| at.duration_since(began).unwrap().as_secs()))
}

#[taskflow::task]
fn hash(text: String) -> Result<usize, TaskError> {
    Ok(text.len())
}

#[taskflow::task]
async fn ping(host: String) -> Result<(), TaskError> {
    let _ = host;
    Ok(())
}

async fn tasks(outbox: &Outbox) -> TestTasks {
    TestTasks::new().state(outbox.clone()).start().await
}

fn panic_of(result: Result<(), Box<dyn std::any::Any + Send>>) -> String {
    *result.unwrap_err().downcast::<String>().unwrap()
}

#[tokio::test]
async fn nothing_runs_until_the_test_says_so() {
    let outbox = Outbox::default();
    let t = tasks(&outbox).await;
    let mail = t.manager().add_task(send_email, ("ada".into(), "Hi".into())).await.unwrap();
    assert_eq!((outbox.sent(), t.record(&mail).status), (0, TaskStatus::Pending));
    let done = t.run(&mail).await;
    assert!(done.is_success() && outbox.sent() == 1, "{done:?}");
    assert_eq!(mail.wait().await, Ok(()));
}

#[tokio::test]
async fn an_assertion_is_typed_and_answers_the_handle() {
    let t = tasks(&Outbox::default()).await;
    t.manager().add_task(send_email, ("ada".into(), "Hi".into())).tag("kind", "hello").await.unwrap();
    t.manager().add_task(send_email, ("bob".into(), "Hi".into())).priority(3).await.unwrap();
    let later = t.manager().add_task(charge_card, (5,)).idempotency_key("once");
    later.run_in(Duration::from_secs(300)).await.unwrap();

    let mail = t.assert_added(send_email).with(|(to, _)| to == "ada").on_queue("default").once();
    assert_eq!(t.record(&mail).tags["kind"], "hello");
    t.assert_added(send_email).tagged("kind", "hello").once();
    t.assert_added(send_email).priority(3).with(|(to, _)| to == "bob").once();
    t.assert_added(charge_card).run_in("5m").key("once").once();
    assert_eq!(t.assert_added(send_email).times(2).len(), 2);
    t.refute_added(hash);
    assert_eq!(t.added(charge_card), [(5,)]);
}

#[tokio::test]
async fn a_miss_prints_what_was_added_field_by_field() {
    let t = tasks(&Outbox::default()).await;
    t.manager().add_task(send_email, ("ada".into(), "Hi".into())).tag("kind", "hello").await.unwrap();
    t.manager().add_task(charge_card, (5,)).await.unwrap();
    let miss = |assert: &dyn Fn()| panic_of(std::panic::catch_unwind(std::panic::AssertUnwindSafe(assert)));

    let text = miss(&|| {
        let wanted = t.assert_added(send_email).with(|(to, _)| to == "bob").on_queue("mail").run_in("5m");
        wanted.tagged("kind", "hello").tagged("kind", "bye").priority(9).key("k").once();
    });
    for part in [
        "`send_email`: 1 wanted, 0 added",
        "they are {\"to\":\"ada\",\"subject\":\"Hi\"}",
        "it is in queue `default`",
        "it is due 0ns after its add",
        "fits: tag `kind` = `hello`",
        "its tag `kind` is `hello`",
        "its priority is 0",
        "it has no idempotency key",
        "other tasks that were added: charge_card",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(miss(&|| t.refute_added(send_email)).contains("0 wanted, 1 added"));
    assert!(miss(&|| drop(t.assert_added(hash).once())).contains("no `hash` was added at all"));
}

#[tokio::test]
async fn an_assertion_waits_for_an_add_that_comes_later() {
    let t = tasks(&Outbox::default()).await;
    let manager = t.manager().clone();
    let adds = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        manager.add_task(charge_card, (7,)).await.unwrap();
    });
    let found = t.assert_added(charge_card).with(|(cents,)| *cents == 7).within("10s").await;
    assert_eq!(found.len(), 1);
    adds.await.unwrap();
}

#[tokio::test]
async fn a_drain_runs_what_is_due_and_what_that_adds() {
    let outbox = Outbox::default();
    let t = tasks(&outbox).await;
    t.manager().add_task(onboard, ("ada".into(),)).await.unwrap();
    let drained = t.drain().await;
    assert_eq!((drained.started, drained.succeeded, outbox.sent()), (2, 2, 1));
    let charge = t.assert_added(charge_card).tagged("user", "ada").run_in("1h").once();
    assert_eq!(t.record(&charge).status, TaskStatus::Pending);

    let before = t.now();
    let drained = t.drain_with(Drain::new().scheduled(true)).await;
    assert_eq!(drained.succeeded, 1);
    assert_eq!(t.result::<u32>(&charge), 101);
    assert_eq!(t.now().duration_since(before).unwrap(), Duration::from_secs(3600));
}

#[tokio::test]
async fn a_drain_begins_no_more_runs_than_its_limit() {
    let t = tasks(&Outbox::default()).await;
    t.manager().add_all((0..10).map(charge_card)).await.unwrap();
    assert_eq!(t.drain_with(Drain::new().limit(3)).await.started, 3);
    assert_eq!(t.manager().counts().await.unwrap().pending, 7);
    assert_eq!(t.drain().await.succeeded, 7);
}

#[tokio::test]
async fn a_failure_is_retried_and_counted_as_in_production() {
    let outbox = Outbox::default();
    let t = tasks(&outbox).await;
    let mail = t.manager().add_task(send_email, ("ada".into(), "Hi".into())).await.unwrap();
    t.fail_next(send_email, "no route".to_owned());
    t.panic_next(send_email, "boom");
    let drained = t.drain().await;
    assert_eq!((drained.started, drained.retrying, outbox.sent()), (1, 1, 0));
    assert_eq!(t.ran(&mail).error(), Some("no route"));
    assert_eq!(t.drain().await.started, 0, "the retry is not due yet");
    assert_eq!(t.advance("59s").await.started, 0);
    assert_eq!(t.advance("1s").await.retrying, 1);
    assert_eq!(t.ran(&mail).outcome(), Some(AttemptOutcome::Panicked));
    assert_eq!(t.advance("1m").await.succeeded, 1);
    assert_eq!((outbox.sent(), t.record(&mail).attempts.len()), (1, 3));
}

#[tokio::test]
async fn a_held_body_begins_when_the_gate_opens() {
    let outbox = Outbox::default();
    let t = tasks(&outbox).await;
    let mail = t.manager().add_task(send_email, ("ada".into(), "Hi".into())).await.unwrap();
    let held = t.hold_next(send_email);
    assert_eq!(t.drain().await.started, 1);
    held.reached().await;
    assert_eq!((t.record(&mail).status, outbox.sent()), (TaskStatus::Running, 0));
    held.open();
    assert_eq!(t.drain().await.succeeded, 1);
    assert_eq!(outbox.sent(), 1);
}

#[tokio::test]
async fn a_hanging_body_is_ended_by_a_cancel() {
    let t = tasks(&Outbox::default()).await;
    let card = t.manager().add_task(charge_card, (5,)).await.unwrap();
    t.hang_next(charge_card);
    t.drain().await;
    t.manager().cancel(card.id()).await.unwrap();
    t.advance("10s").await;
    assert_eq!(t.record(&card).status, TaskStatus::Cancelled);
}

/// How many bodies of `notes` have run.
static NOTED: AtomicUsize = AtomicUsize::new(0);

#[taskflow::task(timeout = "30s")]
fn notes() {
    NOTED.fetch_add(1, Ordering::SeqCst);
}

#[tokio::test]
async fn the_body_of_a_hanging_synchronous_task_does_not_run() {
    let t = TestTasks::new().only(["notes"]).start().await;
    t.hang_next(notes);
    let handle = t.manager().add_task(notes, ()).await.unwrap();
    t.advance("30s").await;
    let began = std::time::Instant::now();
    // Its thread notices the request to stop.
    while t.record(&handle).status == TaskStatus::Running && began.elapsed() < Duration::from_secs(20) {
        t.advance("1ms").await;
    }
    assert_eq!(t.record(&handle).attempts[0].outcome, AttemptOutcome::TimedOut);
    assert_eq!(NOTED.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn synchronous_tasks_run_fail_and_wait_too() {
    let t = tasks(&Outbox::default()).await;
    let first = t.manager().add(hash("abc".into())).await.unwrap();
    assert_eq!(t.run(&first).await.result::<usize>(), 3);
    let second = t.manager().add(hash("abc".into())).await.unwrap();
    t.fail_next(hash, TaskError::abort("no"));
    assert_eq!(t.run(&second).await.status(), TaskStatus::Failed);
    let third = t.manager().add(hash("abcd".into())).await.unwrap();
    let held = t.hold_next(hash);
    t.drain().await;
    assert_eq!(t.record(&third).status, TaskStatus::Running);
    held.open();
    assert!(t.spy(hash).ended(|(text,)| text == "abcd").await.is_success());
}

#[tokio::test]
async fn a_task_that_does_not_run_says_why() {
    let t = TestTasks::new().only(["ping"]).start().await;
    let done = t.manager().add(ping("a".into())).await.unwrap();
    t.run(&done).await;
    let other = t.manager().add(hash("a".into())).await.unwrap();
    let t = Arc::new(t);
    for (id, part) in [(done.id(), "only a pending task can"), (other.id(), "no worker of this test")] {
        let t = t.clone();
        let run = tokio::spawn(async move { drop(t.run(id).await) }).await;
        let text = panic_of(Err(run.unwrap_err().into_panic()));
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn inline_adds_return_after_the_run_and_nested_ones_too() {
    let outbox = Outbox::default();
    let t = TestTasks::new().state(outbox.clone()).inline().start().await;
    let user = t.manager().add_task(onboard, ("ada".into(),)).await.unwrap();
    assert_eq!((outbox.sent(), t.record(&user).status), (1, TaskStatus::Success));
    let later = t.assert_added(charge_card).once();
    assert_eq!(t.record(&later).status, TaskStatus::Pending, "it is not due");
}

#[tokio::test]
async fn in_live_mode_tasks_run_by_themselves() {
    let outbox = Outbox::default();
    let t = TestTasks::new().state(outbox.clone()).live().start().await;
    let user = t.manager().add_task(onboard, ("ada".into(),)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), user.wait()).await.unwrap().unwrap();
    assert!(t.spy(send_email).ended(|(to, _)| to == "ada").await.is_success());
    // The task has already ended.
    assert!(t.spy(send_email).ended(|(to, _)| to == "ada").await.is_success());
    assert_eq!(outbox.sent(), 1);
}

#[tokio::test]
async fn one_body_runs_alone_with_its_logs_progress_and_adds() {
    let first = report_alone(1).await;
    assert_eq!((first.is_success(), first.error()), (false, Some("only the second attempt succeeds")));
    let second = report_alone(2).await;
    assert_eq!(second.result::<String>(), "attempt 2");
    assert_eq!(second.progress().map(|progress| progress.fraction), Some(0.5));
    assert_eq!(second.logs.iter().map(|line| &*line.message).collect::<Vec<_>>(), ["half way"]);

    let onboarded = test(onboard, ("ada".into(),)).run().await;
    let added: Vec<_> = onboarded.added.iter().map(|record| &*record.name).collect();
    assert_eq!((onboarded.is_success(), added), (true, vec!["send_email", "charge_card"]));

    let outbox = Outbox::default();
    let mail = test(send_email, ("ada".into(), "Hi".into())).state(outbox.clone()).run().await;
    assert!(mail.is_success() && outbox.sent() == 1);
    assert_eq!(charge_card(4).test().run().await.result::<u32>(), 5);
}

async fn report_alone(attempt: u32) -> taskflow::testing::Alone {
    test(report, ()).attempt(attempt).run().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tests_share_a_process_and_see_nothing_of_each_other() {
    let each = (0..20).map(|n| async move {
        let outbox = Outbox::default();
        let t = tasks(&outbox).await;
        for _ in 0..n {
            t.manager().add_task(send_email, (n.to_string(), "Hi".into())).await.unwrap();
        }
        assert_eq!(t.drain().await.succeeded, n);
        assert_eq!((outbox.sent(), t.added(send_email).len()), (n, n));
    });
    let all: Vec<_> = each.map(tokio::spawn).collect();
    for one in all {
        one.await.unwrap();
    }
}

/// The status and the body of the answer to an actor with that role.
async fn asked(t: &TestTasks, role: Role, method: Method, path: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let answer = t.admin(role).oneshot(request).await.unwrap();
    let (status, body) = (answer.status(), to_bytes(answer.into_body(), 1 << 20).await.unwrap());
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn the_api_and_the_dashboard_answer_each_role_as_in_production() {
    let t = tasks(&Outbox::default()).await;
    let mail = t.manager().add_task(send_email, ("ada".into(), "Hi".into())).await.unwrap();
    let task = format!("/api/v1/tasks/{mail}");
    let (status, body) = asked(&t, Role::Viewer, Method::GET, &task).await;
    assert!(status == StatusCode::OK && body.contains("\"send_email\""), "{status} {body}");
    let (status, page) = asked(&t, Role::Viewer, Method::GET, &format!("/tasks/{mail}")).await;
    assert!(status == StatusCode::OK && page.contains("send_email"), "{status} {page}");

    let cancel = format!("{task}/cancel");
    let (status, _) = asked(&t, Role::Viewer, Method::POST, &cancel).await;
    assert_eq!((status, t.record(&mail).status), (StatusCode::FORBIDDEN, TaskStatus::Pending));
    let (status, body) = asked(&t, Role::Operator, Method::POST, &cancel).await;
    assert_eq!((status, t.record(&mail).status), (StatusCode::OK, TaskStatus::Cancelled), "{body}");
    let (_, audit) = asked(&t, Role::Admin, Method::GET, "/api/v1/audit").await;
    assert!(audit.contains("\"test\""), "{audit}");
}

#[tokio::test]
async fn a_redacted_record_is_the_same_in_each_run() {
    let mut all = Vec::new();
    for start in ["2026-01-01T00:00:00Z", "2031-07-01T12:34:56.789Z"] {
        let t = TestTasks::new().state(Outbox::default()).starts_at(start).start().await;
        let first = t.manager().add_task(charge_card, (1,)).await.unwrap();
        let add = t.manager().add_task(again, (first.id().to_string(),)).tag("after", first.id().to_string());
        let again = add.idempotency_key(format!("after {first}")).await.unwrap();
        t.second_worker().await;
        t.drain().await;
        t.advance("1s").await;
        t.kill_worker().await;
        t.advance("1h").await;
        let record = t.record(&again);
        assert_eq!(record.attempts.len(), 3, "{record:?}");
        let redacted = t.redacted(&record);
        assert_eq!(serde_json::to_value(&redacted).unwrap()["args"]["after"], "[task 1]");
        let text = redacted.to_string();
        for gone in [&*record.attempts[0].host, &first.id().to_string(), "2026-", "2031-", "null"] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        for there in ["\"after [task 1]\"", "\"[task 2]\"", "\"[instance 1]\"", "\"[time 3]\"", "\"[pid]\""] {
            assert!(text.contains(there), "{there}: {text}");
        }
        all.push(text);
    }
    assert_eq!(all[0], all[1]);
}

#[tokio::test]
async fn a_body_alone_has_the_deadline_that_the_test_gives_it() {
    let run = test(deadline, ()).at("2026-01-01T00:00:00Z").timeout("90s").run().await;
    assert_eq!(run.result::<Option<u64>>(), Some(90));
    assert_eq!(test(deadline, ()).run().await.result::<Option<u64>>(), None);
}
