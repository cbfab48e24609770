//! Load for the dashboard: `cargo run --example signup -- --demo`. Tasks of a shop succeed, fail, retry, wait, take time, and
//! are scheduled.

use std::convert::Infallible;
use std::time::Duration;

use taskflow::{AddError, LogLevel, TaskContext, TaskError, TaskManager};

/// Sends an invoice. The mail server refuses one in eight.
#[taskflow::task(queue = "mail", retries = 3, delay = "2s", backoff = 2.0, priority = 5)]
async fn send_invoice(context: TaskContext, to: String, invoice: u64) -> Result<(), String> {
    context.log(LogLevel::Info, format!("connecting to smtp.example.com:587 for invoice {invoice}"));
    tokio::time::sleep(Duration::from_millis(fastrand::u64(20..400))).await;
    if fastrand::u8(..) < 32 {
        context.log(LogLevel::Warn, "no answer after 500 ms, trying the second address");
        return Err("connection refused by smtp.example.com:587".to_owned());
    }
    context.log(LogLevel::Info, format!("{to} has it"));
    Ok(())
}

/// Charges a card, at most once: a declined card is not tried again.
#[taskflow::task(queue = "payments")]
async fn charge_card(order: u64, cents: u32) -> Result<String, TaskError> {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(100..900))).await;
    match fastrand::u8(..) {
        0..10 => Err(TaskError::abort(format!("card declined for order {order}: insufficient funds"))),
        _ => Ok(format!("charged {cents} cents")),
    }
}

/// Tells a partner's server about a change.
#[taskflow::task(queue = "webhooks", retries = 5, delay = "1s", backoff = 3.0, timeout = "2s")]
async fn notify_partner(context: TaskContext, partner: String, event: String) -> Result<u16, String> {
    context.log(LogLevel::Debug, format!("POST https://{partner}/hooks with {event}"));
    tokio::time::sleep(Duration::from_millis(fastrand::u64(5..120))).await;
    match fastrand::u8(..) {
        0..20 => Err(format!("{partner} answered 503 Service Unavailable")),
        20..22 => {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok(200)
        }
        _ => Ok(200),
    }
}

/// Imports the orders of a shop: a long task with progress and many log lines.
#[taskflow::task(queue = "imports", retries = 1, requeue_on_interrupt)]
async fn import_orders(context: TaskContext, shop: String, rows: u32) -> Result<u32, String> {
    context.log(LogLevel::Info, format!("{rows} rows from {shop}"));
    for row in (0..rows).step_by(100) {
        tokio::time::sleep(Duration::from_millis(250)).await;
        context.progress(row as f32 / rows as f32, format!("row {row} of {rows}"));
        match fastrand::u8(..) {
            0..10 => context.log(LogLevel::Warn, format!("row {}: no postal code, kept without", row + 17)),
            10..13 => {
                context.log(LogLevel::Error, format!("row {}: unknown currency `XQ`, skipped", row + 42))
            }
            _ => context.log(LogLevel::Info, format!("rows {row} to {} are in", row + 99)),
        }
    }
    Ok(rows)
}

/// Looks for orders that nobody has paid.
#[taskflow::schedule(every = "20s", queue = "imports")]
async fn find_unpaid_orders() -> Result<String, Infallible> {
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(format!("{} orders are unpaid", fastrand::u8(0..9)))
}

/// Sends the reminders of the day.
#[taskflow::schedule(cron = "0 8 * * 1-5", timezone = "Europe/Berlin", queue = "mail")]
async fn send_reminders() {}

/// Adds tasks until the program ends.
pub(crate) async fn add_for_ever(tasks: TaskManager) {
    let plans = ["free", "pro", "team"];
    for order in 10_000_u64.. {
        let tenant = fastrand::u32(1..40);
        let added = async {
            let to = format!("customer{tenant}@example.com");
            let plan = plans[fastrand::usize(0..plans.len())];
            tasks.add_task(send_invoice, (to, order)).tag("plan", plan).tag("tenant", tenant).await?;
            if order % 2 == 0 {
                tasks.add_task(charge_card, (order, fastrand::u32(500..20_000))).tag("plan", plan).await?;
            }
            for partner in ["api.parcel.example", "hooks.ledger.example"] {
                let event = format!("order.{order}.created");
                tasks.add_task(notify_partner, (partner.to_owned(), event)).tag("tenant", tenant).await?;
            }
            if order % 60 == 0 {
                let shop = format!("shop-{tenant}");
                tasks.add_task(import_orders, (shop, fastrand::u32(2_000..9_000))).await?;
            }
            if order % 25 == 0 {
                let later = Duration::from_secs(fastrand::u64(60..3600));
                let to = format!("customer{tenant}@example.com");
                tasks.add_task(send_invoice, (to, order)).run_in(later).tag("plan", plan).await?;
            }
            Ok::<_, AddError>(())
        };
        match added.await {
            Ok(()) => {}
            Err(AddError::ShutDown) => return,
            // The queue is full or the store is in trouble: the next order comes anyway.
            Err(error) => eprintln!("an order's tasks were not added: {error}"),
        }
        // Orders come faster by day than by night: here a day lasts about a minute.
        let wave = (order as f64 / 60.0).sin().mul_add(80.0, 140.0);
        tokio::time::sleep(Duration::from_millis(wave as u64 + fastrand::u64(0..60))).await;
    }
}
