#![deny(warnings)]

use std::error::Error;

use taskflow::TaskError;

#[taskflow::task]
async fn text() -> Result<(), &'static str> {
    Ok(())
}

#[taskflow::task]
async fn boxed() -> Result<(), Box<dyn Error + Send + Sync>> {
    let _: u8 = "3".parse()?;
    Ok(())
}

#[taskflow::task]
async fn steered() -> Result<String, TaskError> {
    let _: u8 = "3".parse()?;
    Err(TaskError::abort("no"))
}

#[taskflow::task]
fn plain() -> std::io::Result<Vec<u8>> {
    Ok(Vec::new())
}

#[taskflow::task]
async fn explicit_unit() -> () {}

fn main() {
    let _ = (text, boxed, steered, plain, explicit_unit);
}
