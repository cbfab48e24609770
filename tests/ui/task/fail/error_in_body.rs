#[taskflow::task]
async fn import(file: String) -> Result<(), std::num::ParseIntError> {
    let n: u32 = file;
    let _: u8 = "3".parse()?;
    undefined(n)
}

#[taskflow::task]
async fn misspelt(file: Strin) {
    let _ = file;
}

fn main() {
    let _ = (import, misspelt);
}
