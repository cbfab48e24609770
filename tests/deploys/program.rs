//! The next version of the programs of `schedule_deploys.rs` and `catalogue.rs`: it declares the same schedule with other
//! settings. It runs until its standard input ends.

#![expect(clippy::print_stdout, reason = "the test reads that it has started")]

use std::time::Duration;

use taskflow::{QueueConfig, TaskManager};

/// Beats four times a second.
#[taskflow::schedule(every = "250ms", name = "beat", priority = 2)]
async fn beat() {}

#[taskflow::schedule(cron = "0 0 1 1 *", timezone = "Europe/Paris")]
async fn yearly() {}

#[tokio::main]
async fn main() {
    let url = std::env::args().nth(1).expect("the URL of a store");
    let builder =
        TaskManager::builder().store(url.as_str()).queue("later", QueueConfig::new().concurrency(3));
    let tasks = builder.start().await.expect("the store is there");
    println!("started");
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    let _ = ended.await;
    let _ = tasks.shutdown(Duration::from_secs(5)).await;
}
