//! Schedules: declared in the program, or added, paused and removed while it runs.
//!
//! `cargo run --example schedules` ticks for two seconds. Run it twice at the same time with a file as the store
//! (`STORE=sqlite://schedules.db`): each tick still happens once.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::time::{Duration, SystemTime};

use taskflow::{Cron, Every, TaskContext, TaskManager, task::Overlap};

/// Every 300 ms, at the same instants in all processes; a restart does not shift them.
#[taskflow::schedule(every = "300ms", overlap = "skip")]
async fn refresh_rates(context: TaskContext) {
    let late = context.scheduled_for().and_then(|tick| SystemTime::now().duration_since(tick).ok());
    println!("refresh_rates, {:?} after its tick", late.unwrap_or_default());
}

/// On working days at nine in Berlin, in summer and in winter time. The compiler checks the expression.
#[taskflow::schedule(cron = "0 9 * * MON-FRI", timezone = "Europe/Berlin", missed = "skip")]
async fn morning_report() {
    println!("morning_report");
}

/// An ordinary task. The schedules that `main` adds at run time add it.
#[taskflow::task]
async fn clean(folder: String) {
    println!("clean {folder}");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = std::env::var("STORE").unwrap_or_else(|_| "memory:".to_owned());
    let tasks = TaskManager::builder().store(&store).start().await?;

    // Add schedules at run time. They are stored, can be replaced by name, and are known to every process after about a second.
    let clean_up = tasks.add(clean("uploads".to_owned())).priority(-5);
    let often = Every::new(Duration::from_millis(500))?;
    tasks.schedule(clean_up, often).named("clean-uploads").overlap(Overlap::Skip).await?;
    let nightly = Cron::parse("30 3 * * *")?.timezone("America/New_York")?;
    let days = nightly.upcoming(SystemTime::now()).take(2).filter_map(|tick| tick.elapsed().err());
    println!("clean-logs will tick in {:.0?}", days.map(|until| until.duration()).collect::<Vec<_>>());
    tasks.schedule(clean("logs".to_owned()), nightly).named("clean-logs").await?;

    tasks.run_now("morning_report").await?.wait().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    tasks.pause_schedule("refresh_rates").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for schedule in tasks.schedules().await? {
        let next = schedule.next_run.and_then(|tick| tick.duration_since(SystemTime::now()).ok());
        println!(
            "{:15} {:16} {}, last {:?}",
            schedule.name,
            schedule.trigger.unwrap_or_default(),
            next.map_or("paused".to_owned(), |next| format!("next in {next:.0?}")),
            schedule.last_outcome,
        );
    }
    tasks.resume_schedule("refresh_rates").await?;
    tasks.remove_schedule("clean-uploads").await?;
    tasks.remove_schedule("clean-logs").await?;
    tasks.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
