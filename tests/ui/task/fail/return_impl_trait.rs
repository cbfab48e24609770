#[taskflow::task]
fn import(n: u8) -> impl std::future::Future<Output = ()> {
    async move {
        let _ = n;
    }
}

fn main() {
    let _ = import;
}
