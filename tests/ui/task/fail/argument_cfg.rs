#[taskflow::task]
async fn sometimes(#[cfg(unix)] n: u8, #[arg(defualt)] m: u8, #[arg] #[inject] o: u8) {
    let _ = (n, m, o);
}

fn main() {
    let _ = sometimes;
}
