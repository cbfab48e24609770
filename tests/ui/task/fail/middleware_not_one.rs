struct NotOne;

#[taskflow::task(middleware = [NotOne])]
async fn wrong_type() {}

#[taskflow::task(middleware = [nowhere::Audit])]
async fn wrong_path() {}

fn main() {
    let _ = (wrong_type, wrong_path);
}
