#[taskflow::schedule(cron = "0 3 * * *", timezone = "Europe/Berln")]
async fn misspelt() {}

#[taskflow::schedule(cron = "0 3 * * *", timezone = "+02:00")]
async fn offset() {}

#[taskflow::schedule(every = "1h", timezone = "Europe/Berlin")]
async fn not_days() {}

fn main() {
    let _ = (misspelt, offset, not_days);
}
