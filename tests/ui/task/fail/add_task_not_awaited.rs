#![deny(unused_must_use)]

#[taskflow::task]
async fn ping(host: String) {
    let _ = host;
}

async fn handler(tasks: taskflow::TaskManager) {
    tasks.add_task(ping, ("a".to_owned(),));
}

fn main() {
    let _ = handler;
}
