use taskflow::{TaskHandle, TaskManager};

#[taskflow::task(retrys = 3, priority = "high")]
async fn double(n: u32) -> Result<u32, String> {
    Ok(n * 2)
}

// The two options are all that is wrong here.
async fn handler(tasks: TaskManager) {
    let _: Result<u32, String> = double(1).await;
    let handle: TaskHandle<u32> = tasks.add_task(double, (2,)).await.unwrap();
    let _: u32 = handle.wait().await.unwrap();
}

fn main() {
    let _ = handler;
}
