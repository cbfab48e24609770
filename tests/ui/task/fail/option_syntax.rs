#[taskflow::task(retries(3), delay = , "eager", timeout, queue "x", priority = 3 eager, jitter = 0.1)]
async fn import() {}

#[taskflow::task(crate = "taskflow")]
async fn export() {}

fn main() {
    let _ = (import, export);
}
