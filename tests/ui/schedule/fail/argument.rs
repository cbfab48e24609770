#[taskflow::schedule(every = "1h")]
async fn tick(context: taskflow::TaskContext, day: String, #[arg(default)] n: u8) {
    let _ = (context, day, n);
}

fn main() {
    let _ = tick;
}
