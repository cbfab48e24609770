#[taskflow::task]
async unsafe fn dangerous() {}

#[taskflow::task]
const fn constant() {}

#[taskflow::task]
extern "C" fn foreign() {}

fn main() {
    let _ = (dangerous, constant, foreign);
}
