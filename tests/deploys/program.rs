//! The next version of the program of `schedule_deploys.rs`: it declares the same schedule otherwise. It runs until its standard
//! input ends.

#![expect(clippy::print_stdout, reason = "the test reads that it has started")]

use std::time::Duration;

use taskflow::TaskManager;

#[taskflow::schedule(every = "250ms", name = "beat", priority = 2)]
async fn beat() {}

#[tokio::main]
async fn main() {
    let url = std::env::args().nth(1).expect("the URL of a store");
    let tasks = TaskManager::builder().store(url.as_str()).start().await.expect("the store is there");
    println!("started");
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    let _ = ended.await;
    let _ = tasks.shutdown(Duration::from_secs(5)).await;
}
