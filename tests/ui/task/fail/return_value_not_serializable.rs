struct Opaque;

#[taskflow::task]
async fn import() -> Result<Opaque, String> {
    Ok(Opaque)
}

fn main() {
    let _ = import;
}
