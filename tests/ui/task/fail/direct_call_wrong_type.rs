#[taskflow::task]
async fn send_email(to: String, n: u32) {
    let _ = (to, n);
}

async fn caller() {
    send_email("a@b.c", 3).await;
}

fn main() {
    let _ = caller;
}
