#[taskflow::task]
async fn greet(name: impl Into<String>) {
    let _: String = name.into();
}

fn main() {
    let _ = greet("a");
}
