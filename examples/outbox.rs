//! An outbox for a database that taskflow does not know: each committed order gets its invoice, and no other order does.
//!
//! `cargo run --example outbox` takes about a second. Here the other database is a SQLite file of the shop's own; it
//! could be MySQL, MongoDB or a service. If the tasks are in the same database as the orders, use `within_sqlite` or
//! `within_postgres` instead: then one transaction stores both.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use taskflow::{State, TaskId, TaskManager};

/// The other database.
#[derive(Clone)]
struct Shop(Arc<Mutex<Connection>>);

impl Shop {
    fn place(&self, order: i64) -> rusqlite::Result<()> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction()?;
        transaction.execute("INSERT INTO orders (id) VALUES (?1)", [order])?;
        transaction.commit()
    }

    fn has(&self, order: i64) -> rusqlite::Result<bool> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connection.query_row("SELECT EXISTS (SELECT 1 FROM orders WHERE id = ?1)", [order], |row| row.get(0))
    }
}

/// First looks for its order. If a process dies between the add and the commit, its hold ends, and the task runs although
/// the order was never stored. The commit may also still be under way, so a missing order is an error that is retried.
#[taskflow::task(retries = 3, delay = "100ms")]
fn send_invoice(State(shop): State<Shop>, order: i64) -> Result<String, Box<dyn Error + Send + Sync>> {
    if !shop.has(order)? {
        return Err(format!("order {order} was not committed").into());
    }
    Ok(format!("invoice of order {order}"))
}

/// Adds the invoice, commits the order, and lets the invoice go out.
async fn place_order(tasks: &TaskManager, shop: &Shop, order: i64) -> Result<TaskId, Box<dyn Error>> {
    let hold = tasks.hold();
    let invoice = hold.add_task(send_invoice, (order,)).await?;
    if let Err(error) = shop.place(order) {
        // Awaited: once the cancel is stored, the invoice never goes out, whatever happens to this process.
        hold.cancel(format!("the order was rolled back: {error}")).await?;
        return Err(error.into());
    }
    // Not awaited: the order is committed, and the invoice goes out even if this process dies now.
    hold.release();
    Ok(invoice.id())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let connection = Connection::open(directory.path().join("shop.db"))?;
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)", [])?;
    let shop = Shop(Arc::new(Mutex::new(connection)));

    let url = format!("sqlite://{}", directory.path().join("tasks.db").display());
    let tasks = TaskManager::builder().store(url).state(shop.clone()).start().await?;

    println!("order 42: placed, its invoice is task {}", place_order(&tasks, &shop, 42).await?);
    if let Err(refused) = place_order(&tasks, &shop, 42).await {
        println!("order 42 once more: {refused}");
    }

    // What a crash between the add and the commit leaves behind: a task that runs, and no order.
    let hold = tasks.hold();
    let orphan = hold.add_task(send_invoice, (43,)).await?;
    drop(hold);
    if let Err(failure) = orphan.wait().await {
        println!("{failure}");
    }

    tasks.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
