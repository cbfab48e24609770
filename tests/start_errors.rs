//! An error that keeps a manager from starting names the mistake and the remedy.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use support::Place;
use taskflow::testing::TestTasks;
use taskflow::{
    Error, QueueConfig, State, TaskManager, TaskManagerBuilder, TaskStatus, model::StoreErrorKind,
};

#[derive(Clone)]
struct Mailer;

#[taskflow::task]
async fn ping() {}

#[taskflow::task]
async fn send_email(State(mailer): State<Mailer>) {
    let _ = mailer;
}

#[taskflow::task(queue = "reports")]
async fn weekly_report() {}

fn builder() -> TaskManagerBuilder {
    TaskManager::builder().state(Mailer).queue("reports", QueueConfig::new())
}

/// The error of a start. It must contain each part.
async fn refusal(builder: TaskManagerBuilder, parts: &[&str]) -> Error {
    let error = builder.start().await.expect_err("it starts");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    error
}

#[tokio::test]
async fn all_that_is_asked_for_starts() {
    builder().start().await.unwrap();
    TaskManager::builder().only(["ping"]).start().await.unwrap();
    TaskManager::builder().connect().await.unwrap();
}

#[tokio::test]
async fn a_state_nobody_gave_names_the_task_and_the_type() {
    let builder = TaskManager::builder().queue("reports", QueueConfig::new());
    let error = refusal(builder, &["`send_email`", "State<", "Mailer>", ".state(..)"]).await;
    assert!(matches!(error, Error::MissingState { .. }));
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_queue_nobody_configured_names_the_task_and_the_nearest_queue() {
    let builder = TaskManager::builder().state(Mailer).queue("report", QueueConfig::new());
    let error = refusal(builder, &["`reports`", "`weekly_report`", "did you mean `report`"]).await;
    assert!(matches!(error, Error::UnknownQueue { .. }));
    let error = refusal(builder_that_runs("reprots"), &["`reprots`", "did you mean `reports`"]).await;
    assert!(matches!(error, Error::UnknownQueue { task: None, .. }));
}

fn builder_that_runs(queue: &str) -> TaskManagerBuilder {
    builder().run_queues([queue])
}

#[test]
fn the_check_of_the_test_kit_lists_all_that_is_wrong() {
    TestTasks::new().state(Mailer).configure(|tasks| tasks.queue("reports", QueueConfig::new())).check();
    let wrong = std::panic::catch_unwind(|| {
        let per = Duration::from_millis(1);
        TestTasks::new()
            .configure(move |tasks| {
                let tasks =
                    tasks.queue("report", QueueConfig::new().rate_limit(1, per)).run_queues(["reprot"]);
                tasks.lease(Duration::ZERO).max_concurrent_tasks(0).retention_of(TaskStatus::Pending, per)
            })
            .check();
    });
    let text = *wrong.unwrap_err().downcast::<String>().unwrap();
    for part in [
        "the tasks of this program cannot start:",
        "\n  - task `send_email` needs `State<start_errors::Mailer>`",
        "\n  - queue `reports`",
        "`weekly_report`",
        "did you mean `report`",
        "`reprot`",
        "`max_concurrent_tasks`",
        "`lease`",
        "`rate_limit`",
        "`retention_of`",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    assert_eq!(text.lines().count(), 8, "{text}");

    let wrong = std::panic::catch_unwind(|| TestTasks::new().only(["pnig", "ping", "pign"]).check());
    let text = *wrong.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("`pnig`") && text.contains("`pign`") && text.lines().count() == 3, "{text}");
}

#[tokio::test]
async fn only_an_unknown_task_is_refused_with_the_nearest_name() {
    let error = refusal(builder().only(["pnig", "ping"]), &["`only`", "`pnig`", "did you mean `ping`"]).await;
    assert!(matches!(error, Error::UnknownTask { .. }));
}

#[tokio::test]
async fn what_only_leaves_out_needs_nothing() {
    TaskManager::builder().only(["ping"]).start().await.unwrap();
    refusal(TaskManager::builder().only(["send_email"]), &["Mailer"]).await;
}

#[tokio::test]
async fn a_limit_that_cannot_be_meant_is_refused() {
    let cases = [
        (builder().max_concurrent_tasks(0), ["`max_concurrent_tasks`", "0", ".connect()"]),
        (builder().max_blocking_threads(0), ["`max_blocking_threads`", "0", ".only("]),
        (builder().lease(Duration::from_millis(29)), ["`lease`", "29ms", "30ms"]),
        (builder().lease(Duration::ZERO), ["`lease`", "0ns", "30ms"]),
    ];
    for (builder, parts) in cases {
        let error = refusal(builder, &parts).await;
        assert!(matches!(error, Error::Config { .. }));
    }
    builder().lease(Duration::from_millis(30)).start().await.unwrap();
    builder().lease(Duration::MAX).start().await.unwrap().shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_url_that_cannot_be_used_says_what_would_be_right() {
    let cases: [(&str, &[&str]); 7] = [
        ("mysql://localhost/app", &["`mysql://localhost/app`", "no store `mysql`", "sqlite://"]),
        ("tasks.db", &["`tasks.db`", "no scheme", "sqlite://tasks.db"]),
        ("sqlite:tasks.db", &["sqlite://relative.db"]),
        ("sqlite://", &["names no file"]),
        ("sqlite://a.db?synchronus=full", &["`synchronus`", "synchronous=full|normal"]),
        ("sqlite://a.db?synchronous=off", &["`full` or `normal`"]),
        ("memory:shared", &["takes nothing"]),
    ];
    for (url, parts) in cases {
        let error = refusal(builder().store(url), parts).await;
        assert!(matches!(error, Error::StoreUrl { .. }), "{url}");
        assert!(builder().store(url).connect().await.is_err());
    }
    assert!(!std::path::Path::new("a.db").exists());
}

#[tokio::test]
async fn a_file_that_cannot_be_a_store_says_so_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let url = |name: &str| format!("sqlite://{}", at(name).display());

    let kind = |error: &Error| match error {
        Error::Store(error) => error.kind(),
        other => panic!("{other}"),
    };
    let error = refusal(builder().store(url("missing/tasks.db")), &["missing", "create it"]).await;
    assert_eq!(kind(&error), StoreErrorKind::Denied);
    assert!(!at("missing").exists());

    let text = "a letter, and longer than a header of SQLite is";
    std::fs::write(at("letter.txt"), text).unwrap();
    let error = refusal(builder().store(url("letter.txt")), &["letter.txt", "not a SQLite database"]).await;
    assert_eq!(kind(&error), StoreErrorKind::NotAStore);
    assert_eq!(std::fs::read_to_string(at("letter.txt")).unwrap(), text);

    refusal(builder().store(format!("sqlite://{}", dir.path().display())), &["is a directory"]).await;
}

#[tokio::test]
async fn a_store_of_a_newer_taskflow_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tasks.db");
    let url = format!("sqlite://{}", path.display());
    let tasks = builder().store(&url).start().await.unwrap();
    tasks.shutdown(Duration::ZERO).await.unwrap();
    let future = "INSERT INTO taskflow_migrations (version, applied_at) VALUES (999, 0)";
    rusqlite::Connection::open(&path).unwrap().execute(future, []).unwrap();
    let error = refusal(builder().store(&url), &["newer taskflow", "999", "tasks.db"]).await;
    assert!(matches!(error, Error::Store(error) if error.kind() == StoreErrorKind::NewerSchema));
}

#[tokio::test]
async fn a_store_of_another_development_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tasks.db");
    let url = format!("sqlite://{}", path.display());
    let tasks = builder().store(&url).start().await.unwrap();
    tasks.shutdown(Duration::ZERO).await.unwrap();
    let changes = [
        "UPDATE taskflow_migrations SET fingerprint = 'other'",
        "ALTER TABLE taskflow_migrations DROP COLUMN fingerprint",
    ];
    for change in changes {
        rusqlite::Connection::open(&path).unwrap().execute(change, []).unwrap();
        let error =
            refusal(builder().store(&url), &["tasks.db", "development version", "delete that store's data"])
                .await;
        assert!(matches!(error, Error::Store(error) if error.kind() == StoreErrorKind::NotAStore));
    }
}

#[test]
fn outside_a_runtime_it_says_that_tokio_is_needed() {
    let mut start = pin!(builder().store(Place::memory().url()).start());
    let Poll::Ready(answer) = start.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("`start` waits, although no runtime will ever wake it");
    };
    let error = answer.unwrap_err();
    assert!(matches!(error, Error::NoRuntime));
    assert!(error.to_string().contains("#[tokio::main]"), "{error}");
}

#[test]
fn in_a_runtime_without_a_clock_it_says_so_too() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(builder().start()).unwrap_err();
    assert!(matches!(error, Error::NoRuntime));
}
