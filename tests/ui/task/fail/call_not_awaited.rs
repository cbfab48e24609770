#![deny(unused_must_use)]

#[taskflow::task]
async fn ping(host: String) {
    let _ = host;
}

async fn caller() {
    ping("a".to_owned());
}

fn main() {
    let _ = caller;
}
