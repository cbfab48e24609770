#[taskflow::schedule(every = "0s")]
async fn zero() {}

#[taskflow::schedule(every = "10ms")]
async fn too_often() {}

#[taskflow::schedule(every = "fortnight")]
async fn words() {}

#[taskflow::schedule(every = "40000d")]
async fn too_rarely() {}

fn main() {
    let _ = (zero, too_often, words, too_rarely);
}
