struct Pool;

#[taskflow::task]
async fn import(#[inject] pool: Pool) {
    let _ = pool;
}

fn main() {
    let _ = import;
}
