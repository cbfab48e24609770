#[taskflow::task]
async fn count() -> u32 {
    1
}

#[taskflow::task]
fn names() -> Option<String> {
    None
}

fn main() {
    let _ = (count, names);
}
