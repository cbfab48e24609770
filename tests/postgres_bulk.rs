//! One add of very many tasks on PostgreSQL: all or nothing, with default settings, and stored once however often it is repeated.

#[path = "support/servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::time::Duration;

use servers::postgres::shared_url;
use taskflow::store::{InsertBatch, InsertGroup, InsertTask, InsertedAs, Start, Store};
use taskflow::{InstanceInfo, NewTask, PostgresStore, TaskManager};

fn new_tasks(count: usize, bytes: usize) -> Vec<NewTask> {
    let args: Arc<str> = format!("{{\"text\":\"{}\"}}", "x".repeat(bytes)).into();
    (0..count).map(|_| NewTask::new("nobody", Ok(args.clone()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_tasks_of_a_kilobyte_are_added_at_once_and_a_repeat_adds_none() {
    let Some(url) = shared_url() else { return };
    let tasks = TaskManager::builder().store(&*url).connect().await.unwrap();
    let new = new_tasks(100_000, 1_000);
    let handles = tasks.add_all(new.clone()).await.unwrap();
    assert_eq!(handles.len(), new.len());
    assert_eq!(tasks.counts().await.unwrap().pending, 100_000);

    let store = PostgresStore::open(&url).unwrap();
    let again = new.into_iter().rev().take(50_000).map(|task| InsertTask::new(task, Start::Wait)).collect();
    let me = InstanceInfo::of_this_process(false).id;
    let batch = InsertBatch::new(me, Duration::from_secs(10), vec![InsertGroup::new(again)]);
    let answers = store.insert(Arc::new(batch)).await.unwrap().remove(0).unwrap();
    assert!(answers.iter().all(|inserted| inserted.kind == InsertedAs::Pending));
    assert_eq!(tasks.counts().await.unwrap().pending, 100_000);
    tasks.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_with_keys_and_large_payloads_go_in_parts_and_are_all_there_or_none() {
    let Some(url) = shared_url() else { return };
    let tasks = TaskManager::builder().store(&*url).connect().await.unwrap();
    let keyed = |count: usize, bytes: usize| -> Vec<NewTask> {
        let mut new = new_tasks(count, bytes);
        new.iter_mut().enumerate().for_each(|(n, task)| task.idempotency_key = Some(format!("{count} {n}")));
        new
    };
    tasks.add_all(keyed(40, 1_000_000)).await.unwrap();
    tasks.add_all(keyed(45_000, 10)).await.unwrap();
    assert_eq!(tasks.counts().await.unwrap().pending, 45_040);
    // The table refuses the last of them: nothing of the earlier parts is stored.
    let mut refused = new_tasks(40, 1_000_000);
    refused[39].name = "n".repeat(10_000).into();
    let group = refused.into_iter().map(|task| InsertTask::new(task, Start::Wait)).collect();
    let me = InstanceInfo::of_this_process(false).id;
    let batch = InsertBatch::new(me, Duration::from_secs(10), vec![InsertGroup::new(group)]);
    PostgresStore::open(&url).unwrap().insert(Arc::new(batch)).await.unwrap_err();
    assert_eq!(tasks.counts().await.unwrap().pending, 45_040);
    let listed = tasks.list(taskflow::TaskFilter::all().name("nobody").limit(1)).await.unwrap();
    assert_eq!(listed.items[0].idempotency_key.as_deref(), Some("45000 44999"));
    tasks.shutdown(Duration::ZERO).await.unwrap();
}
