struct NotOne;

#[taskflow::task(middleware = NotOne)]
async fn no_list() {}

#[taskflow::task(middleware = [NotOne::new(), "NotOne"])]
async fn no_paths() {}

#[taskflow::task(middleware)]
async fn no_value() {}

fn main() {
    let _ = (no_list, no_paths, no_value);
}
