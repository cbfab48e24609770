#[taskflow::schedule]
async fn bare() {}

#[taskflow::schedule(retries = 3)]
async fn with_options() {}

fn main() {
    let _ = (bare, with_options);
}
