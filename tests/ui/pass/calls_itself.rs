#![deny(warnings)]

use taskflow::TaskManager;

// In its own body, a task's name is the task: it can be called without a box, and added again.
#[taskflow::task]
async fn countdown(tasks: TaskManager, n: u32) -> Result<(), String> {
    if n > 0 {
        tasks.add_task(countdown, (n - 1,)).await.map_err(|error| error.to_string())?;
        countdown(tasks, n - 1).await?;
    }
    Ok(())
}

#[taskflow::task]
async fn ping(tasks: TaskManager, n: u32) {
    let answer = pong(tasks, n);
    answer.await;
}

#[taskflow::task]
async fn pong(tasks: TaskManager, n: u32) {
    if n > 0 {
        let answer = ping(tasks, n - 1);
        answer.await;
    }
}

fn main() {
    let _ = (countdown, ping, pong);
}
