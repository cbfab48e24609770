#[taskflow::task]
#[taskflow::task(retries = 3)]
async fn import() {}

#[taskflow::task]
#[taskflow::schedule(every = "1h")]
async fn tick() {}

fn main() {
    let _ = (import, tick);
}
