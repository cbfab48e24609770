//! Rows and connections of tests that look into a PostgreSQL store.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::sync::Arc;
use std::time::Duration;

use taskflow::sqlx::{Connection, PgConnection};
use taskflow::store::{InsertBatch, InsertGroup, InsertTask, Start};
use taskflow::{InstanceInfo, NewTask};

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it did not come before the deadline")
}

/// The URL of the server alone, and the namespace in it.
pub(crate) fn split(url: &str) -> (&str, &str) {
    url.split_once("?namespace=").expect("it has a namespace")
}

pub(crate) async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(split(url).0).await.unwrap()
}

pub(crate) fn process() -> InstanceInfo {
    InstanceInfo::of_this_process(true)
}

pub(crate) fn insert(new: NewTask) -> Arc<InsertBatch> {
    let group = InsertGroup::new(vec![InsertTask::new(new, Start::Wait)]);
    Arc::new(InsertBatch::new(process().id, DEADLINE, vec![group]))
}

pub(crate) fn new_task() -> NewTask {
    NewTask::new("double", Ok(Arc::from(r#"{"number":21}"#)))
}
