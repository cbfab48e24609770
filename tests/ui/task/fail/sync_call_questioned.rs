#[taskflow::task]
fn resize(path: String) -> Result<u32, String> {
    let _ = path;
    Ok(1)
}

fn caller() -> Result<u32, String> {
    let size = resize("a".to_owned())?;
    Ok(size)
}

fn main() {
    let _ = caller;
}
