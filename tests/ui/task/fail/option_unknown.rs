#[taskflow::task(retrys = 3, colour = "red", every = "1h")]
async fn import() {}

fn main() {
    let _ = import;
}
