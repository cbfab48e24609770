use std::rc::Rc;

#[taskflow::task]
async fn holds_rc(n: u32) {
    let rc = Rc::new(n);
    std::future::ready(()).await;
    drop(rc);
}

fn main() {
    let _ = holds_rc;
}
