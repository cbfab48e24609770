//! Queues and schedules.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use taskflow::{QueueConfig, Store, TaskManager};

use crate::app;
use crate::asking::App;
use crate::support::{Place, soon};
use crate::wrapper::Wrapper;

#[tokio::test]
async fn a_change_of_limits_leaves_absent_fields_and_removes_null_ones() {
    let (_tasks, app) = app().await;
    let set = |body: &'static str| {
        let app = app.clone();
        async move { app.ask("admin", "PATCH", "/api/v1/queues/small", Some(body)).await }
    };
    let queue = set(r#"{"global_concurrency":5,"rate_limit":{"starts":10,"per":1.5}}"#).await.is(200);
    assert_eq!(queue["rate_limit"], json!({ "starts": 10, "per": 1.5 }));
    assert_eq!(
        (&queue["concurrency"], &queue["max_size"]),
        (&json!(3), &json!(1)),
        "the program's limits stay"
    );
    assert_eq!(queue["limits_from"], "store");
    let queue = set(r#"{"max_size":null,"rate_limit":null}"#).await.is(200);
    assert_eq!((&queue["max_size"], &queue["rate_limit"]), (&Value::Null, &Value::Null));
    assert_eq!((&queue["concurrency"], &queue["global_concurrency"]), (&json!(3), &json!(5)));

    for (body, field) in [
        (r#"{"concurrency":1,"max_size":-1}"#, "max_size"),
        (r#"{"concurrency":1,"max_size":1.5}"#, "max_size"),
        (r#"{"concurrency":1,"rate_limit":{"starts":1}}"#, "rate_limit.per"),
        (r#"{"concurrency":1,"rate_limit":{"starts":1,"per":0}}"#, "rate_limit"),
        (r#"{"concurrency":1,"rate_limit":{"start":1,"per":1}}"#, "rate_limit.start"),
        (r#"{"concurrency":1,"record_rejected":null}"#, "record_rejected"),
        (r#"{"concurency":1}"#, "concurency"),
    ] {
        assert_eq!(set(body).await.refused(422).1, field, "{body}");
        let queue = app.get("viewer", "/api/v1/queues/small").await.is(200);
        assert_eq!(queue["concurrency"], 3, "nothing is stored if anything is refused: {body}");
    }
    let queue = app.ask("admin", "DELETE", "/api/v1/queues/small/limits", None).await.is(200);
    assert_eq!((&queue["max_size"], &queue["limits_from"]), (&json!(1), &json!("program")));
    assert_eq!(
        app.ask("admin", "PATCH", "/api/v1/queues/smal", Some("{}")).await.refused(404).0,
        "not_found"
    );
}

/// A manager and its API, over a store in which somebody else sets a limit just before the first change of limits.
async fn app_with_another() -> (TaskManager, App) {
    let store = Place::memory().store();
    let (other, has_changed) = (store.clone(), AtomicBool::new(false));
    let store = Wrapper::new(store, move |call| {
        let is_first =
            matches!(call, "set_queue" | "replace_queue") && !has_changed.swap(true, Ordering::SeqCst);
        let other: Arc<dyn Store> = other.clone();
        Box::pin(async move {
            match is_first {
                true => {
                    other
                        .set_queue("small".to_owned(), Some(QueueConfig::new().concurrency(3).max_size(8)))
                        .await
                }
                false => Ok(()),
            }
        })
    });
    let builder = TaskManager::builder().store(store).only(["api.greet"]);
    let builder = builder.queue("small", QueueConfig::new().max_size(1).concurrency(3));
    let tasks = soon(builder.start()).await.unwrap();
    let app = App::of(&tasks, []);
    (tasks, app)
}

#[tokio::test]
async fn of_two_changes_of_limits_at_once_none_is_lost() {
    let (_tasks, app) = app_with_another().await;
    let queue =
        app.ask("admin", "PATCH", "/api/v1/queues/small", Some(r#"{"global_concurrency":5}"#)).await.is(200);
    assert_eq!((&queue["global_concurrency"], &queue["max_size"]), (&json!(5), &json!(8)), "{queue}");
}

#[tokio::test]
async fn a_queue_is_paused_and_says_so() {
    let (_tasks, app) = app().await;
    let queue =
        app.ask("operator", "POST", "/api/v1/queues/slow/pause", Some(r#"{"reason":"r"}"#)).await.is(200);
    assert_eq!((&queue["paused"], &queue["warning"]), (&json!(true), &json!("paused")));
    let queue = app.ask("operator", "POST", "/api/v1/queues/slow/resume", None).await.is(200);
    assert_eq!((&queue["paused"], &queue["warning"]), (&json!(false), &Value::Null));
    let audit = app.get("admin", "/api/v1/audit?action=pause_queue").await.is(200);
    assert_eq!(audit["items"][0]["reason"], "r");
    assert_eq!((audit["items"].as_array().unwrap().len(), &audit["items"][0]["target"]), (1, &json!("slow")));
}
