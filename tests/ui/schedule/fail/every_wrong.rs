#[taskflow::schedule(every = "0s")]
async fn zero() {}

#[taskflow::schedule(every = "10ms")]
async fn too_often() {}

#[taskflow::schedule(every = "fortnight")]
async fn words() {}

fn main() {
    let _ = (zero, too_often, words);
}
