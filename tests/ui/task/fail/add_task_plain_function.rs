async fn plain(host: String) {
    let _ = host;
}

async fn handler(tasks: taskflow::TaskManager) {
    let _ = tasks.add_task(plain, ("a".to_owned(),)).await;
}

fn main() {
    let _ = handler;
}
