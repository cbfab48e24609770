#[taskflow::task]
async fn ping(host: String) {
    let _ = host;
}

async fn handler(tasks: taskflow::TaskManager) {
    let _ = tasks.add_task(ping, ("a".to_owned())).await;
}

fn main() {
    let _ = handler;
}
