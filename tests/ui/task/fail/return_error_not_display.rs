struct Opaque;

#[taskflow::task]
async fn import() -> Result<(), Opaque> {
    Ok(())
}

fn main() {
    let _ = import;
}
