#[taskflow::task]
async fn import() -> Result<&str, String> {
    Ok("")
}

fn main() {}
