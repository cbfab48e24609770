#[derive(serde::Serialize)]
struct Half;

#[taskflow::task]
async fn import(what: Half) {
    let _ = what;
}

fn main() {
    let _ = import;
}
