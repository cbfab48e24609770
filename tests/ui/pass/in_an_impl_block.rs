#![deny(warnings)]

use taskflow::TaskManager;

pub struct Mailer;

impl Mailer {
    const SENDER: &'static str = "me@b.c";

    #[taskflow::task(retries = 3)]
    pub async fn send(to: String) -> Result<(), String> {
        println!("{} {to}", Mailer::SENDER);
        Ok(())
    }
}

pub async fn handler(tasks: TaskManager) {
    let _ = tasks.add_task(Mailer::send, ("a@b.c".to_owned(),)).await;
    let _ = tasks.add(Mailer::send("a@b.c".to_owned())).await;
}

fn main() {
    let _ = (handler, Mailer);
}
