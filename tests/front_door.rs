//! The public face of the crate: the names at its root, and records that can be read back from their JSON.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::collections::HashSet;
use std::time::Duration;

use everywhere::everywhere;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use support::soon;
use syn::{Item, UseTree, Visibility};
use taskflow::model::RateLimit;
use taskflow::{Counts, QueueConfig, TaskContext, TaskFilter, TaskHandle, TaskManager, TaskRecord};

/// The names of the root, modules first. Names for everyday code are here; the others are in a module.
const ROOT: &[&str] = &[
    "mod admin",
    "mod crypt",
    "mod manager",
    "mod model",
    "mod observe",
    "mod store",
    "mod task",
    "mod testing",
    "mod web",
    "AddError",
    "AddTask",
    "Attempt",
    "AttemptOutcome",
    "BackgroundTasks",
    "Call",
    "CancelOutcome",
    "Counts",
    "Cron",
    "Error",
    "Every",
    "FromContext",
    "Health",
    "InstanceInfo",
    "LogLevel",
    "LogLine",
    "MemoryStore",
    "NewTask",
    "Page",
    "PostgresStore",
    "QueueConfig",
    "QueueInfo",
    "RedisStore",
    "ScheduleInfo",
    "ShutdownReport",
    "SqliteStore",
    "State",
    "Store",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskEvent",
    "TaskFailure",
    "TaskFilter",
    "TaskHandle",
    "TaskId",
    "TaskManager",
    "TaskManagerBuilder",
    "TaskRecord",
    "TaskStatus",
    "rusqlite",
    "schedule",
    "sqlx",
    "task",
];

fn names(tree: &UseTree, found: &mut Vec<String>) {
    match tree {
        UseTree::Path(path) => names(&path.tree, found),
        UseTree::Group(group) => group.items.iter().for_each(|item| names(item, found)),
        UseTree::Name(name) => found.push(name.ident.to_string()),
        UseTree::Rename(rename) => found.push(rename.rename.to_string()),
        UseTree::Glob(_) => found.push("*".to_owned()),
    }
}

#[test]
fn the_root_has_the_names_that_are_agreed_on() {
    let library = syn::parse_file(include_str!("../taskflow/src/lib.rs")).unwrap();
    let mut found = Vec::new();
    for item in &library.items {
        match item {
            Item::Use(item) if matches!(item.vis, Visibility::Public(_)) => names(&item.tree, &mut found),
            // `__private` is for the macros and not in the documentation.
            Item::Mod(item) if matches!(item.vis, Visibility::Public(_)) && item.ident != "__private" => {
                found.push(format!("mod {}", item.ident));
            }
            _ => {}
        }
    }
    found.sort_unstable_by_key(|name| (!name.starts_with("mod "), name.clone()));
    assert_eq!(found, ROOT);
}

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value, "{json}");
}

#[taskflow::task(retries = 1, timeout = "60500ms")]
async fn note(text: String, context: TaskContext) -> Result<f64, String> {
    context.log(taskflow::LogLevel::Info, &text);
    context.progress(0.5, "half");
    match text.as_str() {
        "bad" => Err("as it was asked".to_owned()),
        _ => Ok(1.5),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_reads_comes_back_from_its_json() {
    for place in everywhere() {
        let limit = QueueConfig::new().rate_limit(1_000_000, Duration::from_millis(1500));
        let tasks = place.builder().queue("default", limit.clone()).start().await.unwrap();
        let good = tasks.add_task(note, ("good".to_owned(),)).tag("k", "v").await.unwrap();
        assert!(soon(good.wait()).await.is_ok());
        let bad = tasks.add_task(note, ("bad".to_owned(),)).retries(0).await.unwrap();
        assert!(soon(bad.wait()).await.is_err());
        tasks.add_task(note, ("later".to_owned(),)).run_in(Duration::from_secs(3600)).await.unwrap();

        let page = tasks.list(TaskFilter::all()).await.unwrap();
        assert_eq!(page.items.len(), 3);
        comes_back(&page);
        let json = serde_json::to_value(&page.items[0]).unwrap();
        assert_eq!(json["timeout"], json!(60.5), "{json}");
        assert_ne!(page.items[0], page.items[1]);
        comes_back(&tasks.logs(good.id()).await.unwrap().unwrap());
        let queues = tasks.queues().await.unwrap();
        comes_back(&queues);
        assert_eq!(serde_json::to_value(&queues[0]).unwrap()["rate_limit"]["per"], json!(1.5));
        comes_back(&limit);
        comes_back(&tasks.instances().await.unwrap());
        comes_back(&tasks.schedules().await.unwrap());
        comes_back(&tasks.counts().await.unwrap());
        comes_back(&tasks.health());
        comes_back(&tasks.shutdown(Duration::from_secs(5)).await.unwrap());
    }
}

#[test]
fn a_length_is_a_number_of_seconds_and_what_is_none_is_refused() {
    let read = |per: &str| serde_json::from_str::<RateLimit>(&format!(r#"{{"starts":1,"per":{per}}}"#));
    for nanos in [0, 1, 999_999_999, 10_000_000, 8_388_607_000_000_001] {
        comes_back(&RateLimit::new(1, Duration::from_nanos(nanos)));
    }
    comes_back(&RateLimit::new(1, Duration::MAX));
    assert_eq!(read("3").unwrap().per, Duration::from_secs(3));
    for junk in ["-1", "1e300", "null", "\"3\"", "{\"secs\":3,\"nanos\":0}"] {
        assert!(read(junk).is_err(), "{junk}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_of_one_task_are_equal() {
    let tasks = TaskManager::builder().connect().await.unwrap();
    let add = || tasks.add_task(note, ("x".to_owned(),)).idempotency_key("same");
    let (first, second) = (add().await.unwrap(), add().await.unwrap());
    let other = tasks.add_task(note, ("x".to_owned(),)).await.unwrap();
    assert!(second.is_duplicate() && first == second && first != other);
    let all: HashSet<TaskHandle<f64>> = [first, second, other].into_iter().collect();
    assert_eq!(all.len(), 2);
}

/// Compiles only while the records have these traits.
#[test]
fn records_can_be_kept_and_compared() {
    fn is<T: Serialize + DeserializeOwned + PartialEq + Clone + Send + Sync>() {}
    is::<TaskRecord>();
    is::<Counts>();
    is::<taskflow::TaskEvent>();
    is::<taskflow::TaskFailure>();
    is::<taskflow::CancelOutcome>();
    is::<taskflow::model::TaskPhase>();
}
