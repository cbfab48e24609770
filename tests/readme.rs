//! The program of the README and its promises, under the clock of the test.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]
#![allow(clippy::print_stdout, reason = "the program of the README prints")]

use std::time::Duration;

use axum::{Json, Router, body::Body, http::Request, http::header::CONTENT_TYPE, routing::post};
use taskflow::testing::{Fault, TestTasks};
use taskflow::{AddError, BackgroundTasks, TaskFilter, TaskId, TaskStatus};
use tower::ServiceExt;

/// Retried three times: after 1 s, 2 s and 4 s.
#[taskflow::task(retries = 3, delay = "1s", backoff = 2.0, priority = 5)]
async fn send_email(to: String, subject: String) -> Result<(), std::io::Error> {
    println!("to {to}: {subject}");
    Ok(())
}

async fn signup(tasks: BackgroundTasks, Json(email): Json<String>) -> Result<Json<TaskId>, AddError> {
    let task = tasks
        .add_task(send_email, (email.clone(), "Welcome".to_owned())) // checked by the compiler
        .idempotency_key(format!("welcome:{email}"))
        .await?; // stored: from here on it survives kill -9 and a power loss
    Ok(Json(task.id())) // the task runs after the response
}

#[taskflow::task]
async fn charge_card(cents: u32) -> Result<u32, std::io::Error> {
    Ok(cents)
}

/// Signs somebody up, and answers the id of the task.
async fn ask(t: &TestTasks, email: &str) -> TaskId {
    let app = Router::new().route("/signup", post(signup)).layer(t.manager().layer());
    let request = Request::post("/signup").header(CONTENT_TYPE, "application/json");
    let answer = app.oneshot(request.body(Body::from(format!("\"{email}\""))).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = axum::body::to_bytes(answer.into_body(), 1000).await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn whoever_signs_up_twice_gets_one_mail() {
    let t = TestTasks::new().start().await;
    let first = ask(&t, "ada@example.com").await;
    let second = ask(&t, "ada@example.com").await;
    assert_eq!(first, second);
    let mail = t.assert_added(send_email).with(|(to, _)| to == "ada@example.com").priority(5).once();
    assert_eq!(t.record(&mail).status, TaskStatus::Pending, "it runs after the response");
    assert_eq!(t.drain().await.succeeded, 1);
}

#[tokio::test]
async fn the_mail_is_retried_after_one_two_and_four_seconds_and_then_no_more() {
    let t = TestTasks::new().start().await;
    let mail = ask(&t, "ada@example.com").await;
    for _ in 0..4 {
        t.fail_next(send_email, std::io::Error::other("no route to host"));
    }
    t.drain().await;
    t.advance("1h").await;
    let record = t.record(mail);
    assert_eq!((record.status, record.attempts.len()), (TaskStatus::Failed, 4));
    for (pair, seconds) in record.attempts.windows(2).zip([1.0, 2.0, 4.0]) {
        let waited = pair[1].started_at.duration_since(pair[0].finished_at.unwrap()).unwrap().as_secs_f64();
        // Jitter makes it up to a tenth shorter or longer.
        assert!((waited / seconds - 1.0).abs() <= 0.101, "{waited} s instead of {seconds} s");
    }
}

#[tokio::test]
async fn after_a_machine_dies_its_tasks_start_elsewhere_when_the_lease_ends() {
    let t = TestTasks::new().start().await;
    let mail = ask(&t, "ada@example.com").await;
    let card = t.manager().add_task(charge_card, (100,)).await.unwrap();
    t.hang_next(send_email);
    t.hang_next(charge_card);
    t.drain().await;
    t.freeze_worker().await;
    t.second_worker().await;
    t.advance("9s").await;
    assert_eq!(t.record(mail).attempts.len(), 1);
    t.advance("6s").await;
    assert!(t.ran(mail).is_success(), "it may run again");
    assert_eq!(t.record(&card).status, TaskStatus::Interrupted, "it may not run twice");

    let interrupted = TaskFilter::new().status(TaskStatus::Interrupted);
    assert_eq!(t.manager().retry_all(interrupted).await.unwrap(), 1);
    t.drain().await;
    assert_eq!(t.result::<u32>(&card), 100);
    let records = t.records();
    t.thaw().await;
    t.advance("1m").await;
    assert_eq!(t.records(), records, "the first runs can no longer write anything");
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_the_caller_sees() {
    let t = TestTasks::new().start().await;
    t.fault(Fault::full_disk());
    let add = tokio::spawn(t.manager().add_task(charge_card, (100,)).into_future());
    t.advance("10s").await;
    assert!(add.is_finished());
    assert!(matches!(add.await.unwrap(), Err(AddError::Store(_))));
    assert_eq!(t.manager().counts().await.unwrap().total(), 0);
    t.back();
    let card = t.manager().add_task(charge_card, (100,)).await.unwrap();
    t.advance(Duration::from_secs(10)).await;
    assert_eq!(t.result::<u32>(&card), 100);
}
