#[taskflow::task]
async fn borrowed(to: &str, parts: &[u8], map: Vec<&std::path::Path>, forever: &'static str) {
    let _ = (to, parts, map, forever);
}

#[taskflow::task]
async fn borrows_context(context: &taskflow::TaskContext, state: &mut taskflow::State<u8>) {
    let _ = (context, state);
}

fn main() {
    let _ = (borrowed, borrows_context);
}
