fn is_transient(_: &String) -> bool {
    true
}

#[taskflow::task(retries = 3, retry_if = is_transient)]
async fn import() {}

#[taskflow::task(retries = 3, retry_if = |error| true)]
async fn export() -> Result<(), String> {
    Ok(())
}

fn main() {
    let _ = (import, export, is_transient);
}
