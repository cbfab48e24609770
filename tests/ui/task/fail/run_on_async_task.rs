#[taskflow::task]
async fn ping(host: String) {
    let _ = host;
}

fn main() {
    ping("a".to_owned()).run();
}
