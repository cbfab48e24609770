#[taskflow::task]
async fn import<T: Send>(what: T) {
    let _ = what;
}

#[taskflow::task]
async fn sized<const N: usize>(what: [u8; N]) {
    let _ = what;
}

#[taskflow::task]
async fn bounded(what: String)
where
    String: Clone,
{
    let _ = what;
}

fn main() {
    let _ = (import::<u8>, sized::<1>, bounded);
}
