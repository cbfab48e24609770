#[taskflow::schedule(every = "1h", cron = "0 3 * * *")]
async fn tick() {}

fn main() {
    let _ = tick;
}
