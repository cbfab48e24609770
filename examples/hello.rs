use taskflow::TaskManager;

#[taskflow::task(retries = 3)]
async fn greet(name: String) {
    println!("hello, {name}");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tasks = TaskManager::builder().store("memory:").start().await?;
    tasks.add_task(greet, ("Ada".to_owned(),)).await?.wait().await?;
    Ok(())
}
