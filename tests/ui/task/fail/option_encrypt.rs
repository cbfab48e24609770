#[taskflow::task(encrpyt)]
async fn misspelt() {}

#[taskflow::task(encrypt = "yes")]
async fn wrong() {}

fn main() {
    let _ = (misspelt, wrong);
}
