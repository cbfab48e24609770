#[taskflow::task]
async fn ignores(_: String) {}

#[taskflow::task]
async fn destructures((x, y): (u8, u8), ref z: u8) {
    let _ = (x, y, z);
}

fn main() {
    let _ = (ignores, destructures);
}
