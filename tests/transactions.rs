//! An add inside the caller's own transaction: the commit stores the task too, and a rollback stores nothing.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use support::{Place, ends, record, soon};
use taskflow::rusqlite::{Connection, TransactionBehavior};
use taskflow::{AddError, QueueConfig, TaskManager, TaskStatus};
use tempfile::TempDir;

#[taskflow::task]
async fn invoice(order: i64) -> Result<i64, String> {
    Ok(order * 10)
}

struct Shop {
    _directory: TempDir,
    tasks: TaskManager,
    connection: Connection,
}

async fn shop() -> Shop {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.db");
    let connection = Connection::open(&file).unwrap();
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)", []).unwrap();
    let tasks = TaskManager::builder()
        .store(format!("sqlite://{}", file.display()))
        .queue("small", QueueConfig::new().max_size(1))
        .start()
        .await
        .unwrap();
    Shop { _directory: directory, tasks, connection }
}

impl Shop {
    fn orders(&self) -> i64 {
        self.connection.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_keeps_the_order_and_its_task_which_runs() {
    let mut shop = shop().await;
    let transaction = shop.connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    transaction.execute("INSERT INTO orders (id) VALUES (7)", []).unwrap();
    let task = shop.tasks.add_task(invoice, (7,)).tag("shop", "a").within_sqlite(&transaction).unwrap();
    // Nobody sees it before the commit.
    assert!(shop.tasks.get(task.id()).await.unwrap().is_none());
    transaction.commit().unwrap();
    assert!(shop.tasks.get(task.id()).await.unwrap().is_some());
    assert_eq!(soon(task.wait()).await, Ok(70));
    assert_eq!(shop.orders(), 1);
    assert_eq!(shop.tasks.counts().await.unwrap().success, 1);
    assert_eq!(record(&shop.tasks, task.id()).await.tags["shop"], "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_leaves_neither() {
    let mut shop = shop().await;
    let transaction = shop.connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    transaction.execute("INSERT INTO orders (id) VALUES (7)", []).unwrap();
    let add = || shop.tasks.add_task(invoice, (7,)).idempotency_key("order:7");
    let task = add().within_sqlite(&transaction).unwrap();
    assert!(add().within_sqlite(&transaction).unwrap().is_duplicate(), "the key holds inside too");
    transaction.rollback().unwrap();
    assert_eq!(shop.orders(), 0);
    assert!(shop.tasks.get(task.id()).await.unwrap().is_none());
    assert_eq!(shop.tasks.counts().await.unwrap().total(), 0);
    let again = add().await.unwrap();
    assert!(!again.is_duplicate(), "the key is free again");
    assert_eq!(ends(&shop.tasks, again.id()).await.status, TaskStatus::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_add_leaves_the_transaction_as_it_was() {
    let mut shop = shop().await;
    shop.tasks.pause_queue("small").await.unwrap();
    let transaction = shop.connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    transaction.execute("INSERT INTO orders (id) VALUES (7)", []).unwrap();
    let add = |order| shop.tasks.add_task(invoice, (order,)).queue("small");
    add(1).within_sqlite(&transaction).unwrap();
    let refused = add(2).within_sqlite(&transaction).unwrap_err();
    assert!(matches!(refused, AddError::QueueFull { max_size: 1, .. }), "{refused}");
    transaction.commit().unwrap();
    assert_eq!((shop.orders(), shop.tasks.counts().await.unwrap().pending), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_transaction_it_is_committed_at_once() {
    let shop = shop().await;
    let task = shop.tasks.add_task(invoice, (3,)).within_sqlite(&shop.connection).unwrap();
    assert_eq!(soon(task.wait()).await, Ok(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_elsewhere_is_refused_and_named() {
    let shop = shop().await;
    let other = shop._directory.path().join("other.db");
    let connection = Connection::open(&other).unwrap();
    let refused = shop.tasks.add_task(invoice, (3,)).within_sqlite(&connection).unwrap_err().to_string();
    assert!(refused.contains("other.db") && refused.contains("shop.db"), "{refused}");
    let memory = Place::memory().builder().start().await.unwrap();
    let refused = memory.add_task(invoice, (3,)).within_sqlite(&connection).unwrap_err().to_string();
    assert!(refused.contains("within_sqlite") && refused.contains("SqliteStore"), "{refused}");
}
