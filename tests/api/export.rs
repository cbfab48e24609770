//! Exports.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt;
use serde_json::Value;
use taskflow::model::NewTask;
use taskflow::web::{Actor, Permission};
use tower::ServiceExt;

use crate::asking::App;
use crate::support::{Gate, Place, soon};
use crate::wrapper::{Wrapper, go_on};
use crate::{add, app, builder};

#[tokio::test]
async fn an_export_has_every_task_and_no_formulas() {
    let (_tasks, app) = app().await;
    for key in ["=1+1", "+1", "-1+1", "@x", "\\tx", "\\rx", "-7", "safe"] {
        let body = format!(r#"{{"name":"api.wait","run_in":3600,"priority":-5,"run_key":"{key}"}}"#);
        add(&app, &body).await;
    }
    let answer = app.get("viewer", "/api/v1/export.csv?name=api.wait").await;
    assert!(answer.header("content-disposition").unwrap().contains("tasks.csv"));
    let text = answer.text();
    assert_eq!(text.matches("api.wait").count(), 8);
    for cell in ["'=1+1", "'+1", "'-1+1", "'@x", "'\tx", "'\rx", ",-7,", ",safe,", ",-5,"] {
        assert!(text.contains(cell), "{cell:?} in {text}");
    }
    let lines = app.get("viewer", "/api/v1/export.ndjson").await.text();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 8);
    assert_eq!(lines[7]["run_key"], "=1+1");
    assert_eq!(app.get("viewer", "/api/v1/export.csv?nmae=x").await.refused(422).1, "nmae");
}

#[tokio::test]
async fn an_export_reads_only_what_its_client_takes() {
    let place = Place::memory();
    let tasks = soon(builder(&place, &Gate::default()).start()).await.unwrap();
    soon(tasks.pause_queue("slow")).await.unwrap();
    let waiting = || {
        let mut task = NewTask::new("api.wait", Ok("{}".into()));
        task.queue = "slow".into();
        task
    };
    soon(tasks.add_all((0..1000).map(|_| waiting()))).await.unwrap();
    let reads = Arc::new(AtomicUsize::new(0));
    let store = Wrapper::new(place.store(), {
        let reads = Arc::clone(&reads);
        move |call| {
            reads.fetch_add(usize::from(call == "list"), Ordering::SeqCst);
            go_on()
        }
    });
    let viewer = soon(taskflow::TaskManager::builder().store(store).connect()).await.unwrap();
    let app = App::of(&viewer, [Actor::with("rows only", [Permission::View])]);
    let request = Request::get("/api/v1/export.ndjson").header("authorization", app.bearer("viewer"));
    let response = soon(app.router.clone().oneshot(request.body(Body::empty()).unwrap())).await.unwrap();
    let mut body = response.into_body().into_data_stream();
    assert_eq!(reads.load(Ordering::SeqCst), 1, "the first page tells whether the store answers");
    let mut lines = 0;
    for pages in 1..=3 {
        lines += soon(body.next()).await.unwrap().unwrap().iter().filter(|byte| **byte == b'\n').count();
        assert_eq!((reads.load(Ordering::SeqCst), lines), (pages, pages * 100));
    }
    drop(body);
    assert_eq!(app.get("rows only", "/api/v1/export.csv").await.refused(403).0, "forbidden");
}
