//! The REST API: what each route takes, answers and refuses.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/asking.rs"]
mod asking;
#[path = "api/contract.rs"]
mod contract;
#[path = "api/export.rs"]
mod export;
#[path = "api/hostile.rs"]
mod hostile;
#[path = "api/queues.rs"]
mod queues;
#[path = "api/streams.rs"]
mod streams;
mod support;
#[path = "api/tasks.rs"]
mod tasks;
#[path = "support/wrapper.rs"]
mod wrapper;

use asking::App;
use support::{Gate, Place, soon};
use taskflow::model::LogLevel;
use taskflow::web::{Actor, Role};
use taskflow::{QueueConfig, State, TaskContext, TaskId, TaskManager, TaskManagerBuilder};

/// Greets somebody.
#[taskflow::task(name = "api.greet", retries = 0)]
async fn greet(
    context: TaskContext,
    to: String,
    number: Option<serde_json::Value>,
) -> Result<String, String> {
    context.log(LogLevel::Info, format!("greeting {to}"));
    match to.as_str() {
        "nobody" => Err(format!("nobody is there, in room {}", number.map_or(0, |_| 1))),
        _ => Ok(format!("hello {to}")),
    }
}

/// Reports its progress, and waits.
#[taskflow::task(name = "api.wait", queue = "slow")]
async fn wait(context: TaskContext, State(gate): State<Gate>) {
    context.log(LogLevel::Warn, "one");
    context.progress(0.5, "half");
    gate.pass().await;
    context.log(LogLevel::Info, "two");
}

/// A manager with both tasks and the queues `default`, `slow` and `small`.
fn builder(place: &Place, gate: &Gate) -> TaskManagerBuilder {
    let builder = place.builder().only(["api.greet", "api.wait"]).state(gate.clone());
    builder.queue("slow", QueueConfig::new()).queue("small", QueueConfig::new().max_size(1).concurrency(3))
}

/// A manager over a memory store, and its API.
async fn app() -> (TaskManager, App) {
    let tasks = soon(builder(&Place::memory(), &Gate::default()).start()).await.unwrap();
    let slow_only = Actor::new("slow only", Role::Admin).only_queues(["slow"]);
    let app = App::of(&tasks, [slow_only]);
    (tasks, app)
}

/// Adds a task as the API does.
async fn add(app: &App, body: &str) -> TaskId {
    let answer = app.ask("admin", "POST", "/api/v1/tasks", Some(body)).await;
    let json = answer.is(201);
    json["id"].as_str().unwrap().parse().unwrap()
}

/// Adds a greeting, and answers its id once it has ended.
async fn greeted(tasks: &TaskManager, app: &App, to: &str) -> TaskId {
    let id = add(app, &format!(r#"{{"name":"api.greet","args":{{"to":"{to}"}}}}"#)).await;
    support::ends(tasks, id).await;
    id
}
