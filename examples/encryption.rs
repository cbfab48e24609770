//! Encryption at rest: what a store holds, how a key is replaced, and what happens without the old key.
//!
//! ```sh
//! cargo run --example encryption
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use taskflow::crypt::{Encrypt, Key, Keyring};
use taskflow::{TaskManager, TaskManagerBuilder, TaskStatus};

#[taskflow::task]
async fn send_letter(to: String, text: String) -> Result<String, std::io::Error> {
    Ok(format!("`{text}` is on its way to {to}"))
}

/// Not encrypted: whoever can read the store may read its arguments.
#[taskflow::task(encrypt = false)]
async fn count_stamps(stamps: u32) {
    let _ = stamps;
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let store = format!("sqlite://{}", directory.path().join("tasks.db").display());
    let builder = || TaskManager::builder().store(store.as_str());

    // A service reads its keys from its environment: `Key::from_env("TASKFLOW_KEY_2025")?`.
    let old = Key::generate();
    let tasks = builder().encrypt(Encrypt::new(old.clone())).start().await?;
    let letter = tasks.add(send_letter("Ada".to_owned(), "meet me at nine".to_owned())).await?;
    println!("the task returns: {}", letter.wait().await?);

    let stored = tasks.get(letter.id()).await?.ok_or("it is kept for a week")?;
    println!("the store holds:  {}", stored.args);
    println!("its owner reads:  {}", tasks.open(&stored)?.args);
    let stamps = tasks.add(count_stamps(3)).await?;
    let plain = tasks.get(stamps.id()).await?.ok_or("it is kept for a week")?;
    println!("not encrypted:    {}", plain.args);
    tasks.shutdown(Duration::from_secs(5)).await?;

    // This task still waits when the key is replaced, because a manager that only connects runs no tasks.
    let adder = builder().encrypt(Encrypt::new(old.clone())).connect().await?;
    let waiting = adder.add(send_letter("Grace".to_owned(), "bring the moth".to_owned())).await?;
    adder.shutdown(Duration::from_secs(5)).await?;

    let new = Key::generate();
    lost(builder(), new.clone(), waiting.id()).await?;

    // With both keys: the new one encrypts (seals) values, the old one still decrypts (opens) them.
    let tasks = builder().encrypt(Encrypt::new(Keyring::new(new).also(old))).start().await?;
    tasks.retry(waiting.id()).await?;
    while tasks.get(waiting.id()).await?.is_some_and(|task| !task.status.is_final()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let record = tasks.get(waiting.id()).await?.ok_or("it is kept for a week")?;
    let keys: Vec<_> = record.sealing_keys().collect();
    println!("with both keys:   {} (its parts are sealed with {})", record.status, keys.join(" and "));
    assert_eq!(record.status, TaskStatus::Success);
    tasks.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

/// Runs a process that has only the new key: the task fails.
async fn lost(
    builder: TaskManagerBuilder,
    new: Key,
    waiting: taskflow::TaskId,
) -> Result<(), Box<dyn std::error::Error>> {
    let tasks = builder.encrypt(Encrypt::new(new)).start().await?;
    let failed = loop {
        let record = tasks.get(waiting).await?.ok_or("it waits")?;
        if record.status.is_final() {
            break record;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    println!("without its key:  {}", failed.error.unwrap_or_default());
    println!("the health says:  missing keys {:?}", tasks.health().missing_keys);
    tasks.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
