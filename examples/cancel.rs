//! Cancels waiting and running tasks, limits how long they take, and finds them afterwards.
//!
//! `cargo run --example cancel` takes about a second.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::time::{Duration, SystemTime};

use taskflow::{TaskContext, TaskFilter, TaskManager, TaskStatus};

/// An async task that does not check for a cancel: when it is cancelled, it is dropped at its next await.
#[taskflow::task]
async fn follow(feed: String) {
    let _ = feed;
    std::future::pending().await
}

/// A synchronous task: it stops when it notices the request to stop.
#[taskflow::task]
fn compute(rounds: u64, context: TaskContext) -> Result<u64, String> {
    for round in 0..rounds {
        if context.is_cancelled() {
            return Err(format!("stopped after {round} rounds"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(rounds)
}

/// Each attempt may take at most 100 ms.
#[taskflow::task(timeout = "100ms")]
async fn ask_a_slow_server() {
    std::future::pending().await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tasks = TaskManager::builder().store("memory:").max_concurrent_tasks(3).start().await?;

    let running = tasks.add_task(follow, ("news".to_owned(),)).tag("user", 42).await?;
    let computing = tasks.add_task(compute, (1_000_000,)).tag("user", 42).await?;
    let slow = tasks.add_task(ask_a_slow_server, ()).await?;
    // Every slot is taken, so this task expires before it starts.
    let soon = SystemTime::now() + Duration::from_millis(50);
    let late = tasks.add_task(follow, ("yesterday".to_owned(),)).expires_at(soon).await?;
    // A waiting task can be replaced and cancelled by its run key.
    let tomorrow = SystemTime::now() + Duration::from_secs(24 * 3600);
    tasks.add_task(follow, ("auction".to_owned(),)).run_at(tomorrow).run_key("auction:42").await?;

    for ended in [late.wait().await.map(drop), slow.wait().await.map(drop)] {
        println!("{}", ended.map_or_else(|failure| failure.to_string(), |()| "it succeeded".to_owned()));
    }
    println!("by its key: {}", tasks.cancel_by_run_key("auction:42").await?);
    println!("one: {:?}", tasks.cancel(running.id()).await?);
    // All tasks of one user, of any name and in any process.
    println!("all of user 42: {}", tasks.cancel_all(TaskFilter::new().tag("user", 42)).await?);
    if let Err(failure) = computing.wait().await {
        println!("{failure}");
    }

    // Find tasks by status, phase, argument, error, age ...
    let of_news = TaskFilter::new().status(TaskStatus::Cancelled).arg("feed", "news");
    for task in tasks.list(of_news).await?.items {
        println!("{} {}: {}", task.name, task.args, task.error.unwrap_or_default());
    }
    println!("deleted: {}", tasks.delete_all(TaskFilter::all()).await?);
    tasks.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
