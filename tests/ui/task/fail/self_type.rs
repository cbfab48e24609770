struct Mailer;

impl Mailer {
    #[taskflow::task]
    async fn send(other: Vec<Self>) -> Result<(), <Self as Named>::Error> {
        let _ = other;
        Ok(())
    }
}

trait Named {
    type Error;
}

impl Named for Mailer {
    type Error = String;
}

fn main() {
    let _ = Mailer::send;
    let _ = Mailer;
}
