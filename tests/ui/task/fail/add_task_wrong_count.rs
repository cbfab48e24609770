#[taskflow::task]
async fn send_email(to: String, n: u32) {
    let _ = (to, n);
}

async fn handler(tasks: taskflow::TaskManager) {
    let _ = tasks.add_task(send_email, ("a@b.c".to_owned(),)).await;
}

fn main() {
    let _ = handler;
}
