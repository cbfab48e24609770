struct Mailer;

impl Mailer {
    #[taskflow::task]
    async fn send(&self, to: String) {
        let _ = (self, to);
    }
}

fn main() {
    let _ = Mailer::send;
    let _ = Mailer;
}
