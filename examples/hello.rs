//! The shortest complete program: adds a task, waits for its result, and shuts down.
#![allow(clippy::print_stdout, reason = "it greets")]

#[taskflow::task(retries = 3)]
async fn greet(name: String) -> Result<String, std::io::Error> {
    Ok(format!("hello, {name}"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tasks = taskflow::TaskManager::builder().store("sqlite://hello.db").start().await?;
    println!("{}", tasks.add_task(greet, ("Ada".to_owned(),)).await?.wait().await?);
    Ok(tasks.shutdown(std::time::Duration::from_secs(5)).await.map(drop)?)
}
