#[taskflow::schedule(every = "1h", missed = "last", overlap = "skp", run_on_startup = "yes", retrys = 3)]
async fn tick() {}

fn main() {
    let _ = tick;
}
