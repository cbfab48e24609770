use taskflow::State;

struct Pool;

#[taskflow::task]
async fn import(State(pool): State<Pool>) {
    let _ = pool;
}

fn main() {
    let _ = import;
}
