//! The limits of a queue: how many tasks run, how many wait, how often they start, and how tenants share the queue.
//!
//! `cargo run --example queues` adds, shows, and changes limits; it takes three seconds.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::time::{Duration, Instant};

use taskflow::{AddError, QueueConfig, TaskManager};

#[taskflow::task(queue = "mail")]
async fn send(tenant: String) {
    tokio::time::sleep(Duration::from_millis(20)).await;
    let _ = tenant;
}

async fn show(tasks: &TaskManager, when: &str) -> Result<(), taskflow::Error> {
    for queue in tasks.queues().await?.into_iter().filter(|queue| queue.name == "mail") {
        println!(
            "{when}: {} wait, {} run, {} ended, {} were refused (limits from the {})",
            queue.waiting(),
            queue.running,
            queue.finished,
            queue.rejected,
            queue.limits_from,
        );
    }
    Ok(())
}

async fn until_empty(tasks: &TaskManager) -> Result<Duration, taskflow::Error> {
    let begin = Instant::now();
    while tasks.counts().await?.unfinished() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(begin.elapsed())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // At most 200 tasks wait. Over all processes at most 8 run, at most 4 of them for one tenant.
    let mail = QueueConfig::new().max_size(200).global_concurrency(8).key_concurrency(4);
    let tasks = TaskManager::builder().store("memory:").queue("mail", mail).start().await?;

    // One tenant takes all places but one, another takes the last. The next add is refused; an axum handler would answer 429.
    tasks.pause_queue("mail").await?;
    let mail_of = |tenant: &str| tasks.add_task(send, (tenant.to_owned(),)).concurrency_key(tenant);
    tasks.add_all((0..199).map(|_| mail_of("noisy")).collect::<Vec<_>>()).await?;
    let quiet = mail_of("quiet").await?;
    match mail_of("noisy").await {
        Err(AddError::QueueFull { queue, max_size }) => println!("`{queue}` is full: {max_size} wait"),
        other => println!("{other:?}"),
    }
    show(&tasks, "paused").await?;

    // The quiet tenant does not wait for the many tasks of the noisy one.
    tasks.resume_queue("mail").await?;
    let begin = Instant::now();
    quiet.wait().await?;
    println!("the quiet tenant was served after {:?}", begin.elapsed());
    show(&tasks, "at work").await?;
    println!("the noisy one, 4 at a time: {:?}", until_empty(&tasks).await?);

    // Limits from `set_queue` apply to all processes, over restarts, until they are reset.
    tasks.set_queue("mail", QueueConfig::new().rate_limit(10, Duration::from_millis(500))).await?;
    tasks.add_all((0..30).map(|_| mail_of("noisy")).collect::<Vec<_>>()).await?;
    println!("30 tasks, at most 10 starts in half a second: {:?}", until_empty(&tasks).await?);
    show(&tasks, "with a rate limit").await?;
    tasks.reset_queue("mail").await?;
    show(&tasks, "reset").await?;
    tasks.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
