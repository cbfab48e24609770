#![deny(warnings)]

use taskflow::{State, TaskContext, TaskManager};

#[taskflow::schedule(every = "15m", run_on_startup, missed = "all", overlap = "skip")]
async fn refresh(context: TaskContext, State(url): State<String>) {
    let _ = (context, url);
}

#[taskflow::schedule(every = 0.5)]
fn twice_a_second() {}

#[taskflow::schedule(every = "1d", timezone = "America/New_York")]
async fn midnight() {}

#[taskflow::schedule(
    cron = "0 3 * * MON-FRI",
    timezone = "Europe/Berlin",
    missed = "skip",
    name = "nightly",
    retries = 2,
    queue = "reports"
)]
async fn night(tasks: TaskManager) -> Result<(), String> {
    let _ = tasks.add_task(refresh, ()).await;
    let _ = tasks.add(midnight()).await;
    Ok(())
}

#[taskflow::schedule(cron = "*/10 * * * * *")]
async fn six_fields() {}

#[taskflow::schedule(cron = "@daily")]
async fn nickname() {}

fn main() {
    let _ = (refresh, twice_a_second, night, six_fields, nickname);
}
