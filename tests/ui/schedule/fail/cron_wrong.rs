#[taskflow::schedule(cron = "0 3 * *")]
async fn four_fields() {}

#[taskflow::schedule(cron = "0 25 * * *")]
async fn hour_25() {}

#[taskflow::schedule(cron = "0 0 30 2 *")]
async fn thirtieth_of_february() {}

#[taskflow::schedule(cron = "@dayly")]
async fn nickname() {}

#[taskflow::schedule(cron = "every day at noon")]
async fn words() {}

fn main() {
    let _ = (four_fields, hour_25, thirtieth_of_february, nickname, words);
}
