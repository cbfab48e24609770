//! Logs and streams of one task and of everything.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt;
use serde_json::{Value, json};
use taskflow::model::{StoreError, StoreErrorKind};
use taskflow::{TaskManager, TaskStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::asking::App;
use crate::support::{Gate, Place, eventually, reaches, soon};
use crate::wrapper::{Wrapper, go_on};
use crate::{add, app, builder, greeted};

#[tokio::test]
async fn a_log_is_read_by_lines_and_as_text() {
    let (tasks, app) = app().await;
    let id = greeted(&tasks, &app, "ada").await;
    let path = format!("/api/v1/tasks/{id}/logs");
    let log = app.get("viewer", &path).await.is(200);
    assert_eq!((&log["lines"][0]["n"], &log["lines"][0]["message"]), (&json!(1), &json!("greeting ada")));
    assert_eq!(log["next"], Value::Null);
    let none = app.get("viewer", &format!("{path}?after=1")).await.is(200);
    assert_eq!(none["lines"], json!([]));
    assert_eq!(app.get("viewer", &format!("{path}?level=warn")).await.is(200)["lines"], json!([]));
    assert_eq!(app.get("viewer", &format!("{path}?level=loud")).await.refused(422).1, "level");
    let request =
        Request::get(&path).header("authorization", app.bearer("viewer")).header("accept", "text/plain");
    let text = crate::asking::send(&app.router, request.body(Body::empty()).unwrap()).await.text();
    assert!(text.ends_with("Z INFO  greeting ada\n"), "{text:?}");
}

/// The events in a text: their kinds and their data.
fn events(text: &str) -> Vec<(String, Value)> {
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned)).unwrap_or_default()
    };
    let whole = text.split("\n\n").filter(|event| event.contains("event: ") && event.contains("data: "));
    whole
        .map(|event| (field(event, "event: "), serde_json::from_str(&field(event, "data: ")).unwrap()))
        .collect()
}

#[tokio::test]
async fn a_task_is_followed_over_a_socket_until_it_ends() {
    let gate = Gate::default();
    let tasks = soon(builder(&Place::memory(), &gate).start()).await.unwrap();
    let app = App::of(&tasks, []);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, app.router.clone()).into_future());
    let id = add(&app, r#"{"name":"api.wait"}"#).await;
    let mut socket = soon(TcpStream::connect(address)).await.unwrap();
    let request = format!(
        "GET /api/v1/tasks/{id}/events HTTP/1.0\r\nHost: {address}\r\nAuthorization: {}\r\n\r\n",
        app.bearer("viewer")
    );
    soon(socket.write_all(request.as_bytes())).await.unwrap();
    let mut text = String::new();
    while !text.contains("event: progress") {
        let mut part = [0; 4096];
        let length = soon(socket.read(&mut part)).await.unwrap();
        assert!(length > 0, "the stream ended early: {text}");
        text.push_str(std::str::from_utf8(&part[..length]).unwrap());
    }
    gate.open();
    // The server ends the stream when the task ends.
    soon(socket.read_to_string(&mut text)).await.unwrap();
    assert!(text.to_lowercase().contains("content-type: text/event-stream"), "{text}");
    let events = events(&text);
    let logs: Vec<_> =
        events.iter().filter(|(kind, _)| kind == "log").map(|(_, line)| &line["message"]).collect();
    assert_eq!(logs, ["one", "two"]);
    let progress = events.iter().find(|(kind, _)| kind == "progress").unwrap();
    assert_eq!(progress.1, json!({ "fraction": 0.5, "message": "half" }));
    let (kind, last) = events.last().unwrap();
    assert_eq!((kind.as_str(), &last["status"]), ("status", &json!("success")));
    server.abort();
}

#[tokio::test]
async fn a_stream_goes_on_behind_the_last_line_that_its_reader_had() {
    let (tasks, app) = app().await;
    let id = greeted(&tasks, &app, "ada").await;
    let request =
        Request::get(format!("/api/v1/tasks/{id}/events")).header("authorization", app.bearer("viewer"));
    let request = request.header("last-event-id", "1").body(Body::empty()).unwrap();
    let answer = crate::asking::send(&app.router, request).await;
    let kinds: Vec<_> = events(&answer.text()).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["status"]);
}

#[tokio::test]
async fn a_stream_that_nobody_reads_reads_nothing_and_the_number_of_streams_is_bounded() {
    let gate = Gate::default();
    let place = Place::memory();
    let tasks = soon(builder(&place, &gate).start()).await.unwrap();
    let (reads, counted) = tokio::sync::watch::channel(0);
    let store = Wrapper::new(place.store(), move |call| {
        if call == "logs" {
            reads.send_modify(|reads| *reads += 1);
        }
        go_on()
    });
    let viewer = soon(TaskManager::builder().store(store).connect()).await.unwrap();
    let app = App::of(&viewer, []);
    let id = add(&App::of(&tasks, []), r#"{"name":"api.wait"}"#).await;
    reaches(&tasks, id, TaskStatus::Running).await;
    let open = || {
        let request = Request::get(format!("/api/v1/tasks/{id}/events"));
        let request = request.header("authorization", app.bearer("viewer")).body(Body::empty()).unwrap();
        soon(app.router.clone().oneshot(request))
    };
    let mut streams = Vec::new();
    let refused = loop {
        let response = open().await.unwrap();
        if response.status() != 200 {
            break response;
        }
        streams.push(response);
        assert!(streams.len() <= 64);
    };
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (503, true));
    // Of the 64 open streams, only the one that has a reading client reads the store.
    let mut body = streams.pop().unwrap().into_body().into_data_stream();
    soon(body.next()).await.unwrap().unwrap();
    assert_eq!(*counted.borrow(), 1);
    drop((body, streams));
    assert_eq!(open().await.unwrap().status(), 200);
    gate.open();
}

#[tokio::test]
async fn the_pulse_shows_what_its_actor_may_see() {
    let (_tasks, app) = app().await;
    for (name, queues) in [("viewer", vec!["default", "slow", "small"]), ("slow only", vec!["slow"])] {
        let request = Request::get("/api/v1/events").header("authorization", app.bearer(name));
        let response = soon(app.router.clone().oneshot(request.body(Body::empty()).unwrap())).await.unwrap();
        let mut body = response.into_body().into_data_stream();
        let text = soon(body.next()).await.unwrap().unwrap();
        let (kind, pulse) = events(std::str::from_utf8(&text).unwrap()).remove(0);
        assert_eq!(kind, "pulse");
        let seen: Vec<_> = pulse["queues"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(seen, queues);
        assert_eq!(pulse["counts"].is_null(), name == "slow only");
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_told_at_once_and_the_process_stays_alive() {
    let (away, is_away) = tokio::sync::watch::channel(false);
    let store = Wrapper::new(Place::memory().store(), move |_| match *is_away.borrow() {
        true => Box::pin(async { Err(StoreError::new(StoreErrorKind::Unavailable, "the cable is cut")) }),
        false => go_on(),
    });
    let tasks = soon(TaskManager::builder().store(store).connect()).await.unwrap();
    let app = App::of(&tasks, []);
    assert_eq!(app.get("viewer", "/readyz").await.status.as_u16(), 200);
    away.send_replace(true);
    for path in
        ["tasks", "overview", "queues", "schedules", "instances", "types", "stats", "failures", "operations"]
    {
        let began = Instant::now();
        let answer = app.get("admin", &format!("/api/v1/{path}")).await;
        assert!(began.elapsed() < Duration::from_secs(1), "{path}: {:?}", began.elapsed());
        assert!(answer.header("retry-after").is_some());
        assert_eq!(answer.refused(503).0, "degraded", "{path}");
    }
    let pause = app.ask("admin", "POST", "/api/v1/queues/default/pause", None).await;
    assert_eq!(pause.refused(503).0, "degraded");
    assert_eq!(app.get("admin", "/healthz").await.text(), "ok");
    assert_eq!(app.get("admin", "/readyz").await.status.as_u16(), 503);
    away.send_replace(false);
    let back = || async { (app.get("admin", "/api/v1/tasks").await.status == 200).then_some(()) };
    eventually("the store is back", back).await;
}
