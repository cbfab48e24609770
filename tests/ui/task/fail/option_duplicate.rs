#[taskflow::task(retries = 3, eager, retries = 4, aliases = ["a", "b", "a", "import"])]
async fn import() {}

#[taskflow::task(name = "x", aliases = ["x"])]
async fn export() {}

fn main() {
    let _ = (import, export);
}
