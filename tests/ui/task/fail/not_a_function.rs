#[taskflow::task]
struct Mailer;

#[taskflow::task]
impl Mailer {}

#[taskflow::task]
const fn_like: u8 = 1;

trait Sends {
    #[taskflow::task]
    fn send(to: String);
}

fn main() {
    let _ = (Mailer, fn_like);
}
