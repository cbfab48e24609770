use axum::extract::State;

#[taskflow::task]
async fn import(State(pool): State<String>) {
    let _ = pool;
}

fn main() {
    let _ = import;
}
