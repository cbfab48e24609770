//! A small service with its tests: `cargo run --example testing` signs somebody up, and
//! `cargo test --example testing --features testing` runs the tests below.

#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use taskflow::{AddError, State, TaskManager};

/// Where mails go: here, into a counter.
#[derive(Clone, Default)]
struct Mailer(Arc<AtomicUsize>);

#[taskflow::task(retries = 3, delay = "1m", backoff = 1.0, jitter = 0.0)]
async fn welcome(to: String, mailer: State<Mailer>) -> Result<(), String> {
    println!("mail to {to}");
    mailer.0.0.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

async fn sign_up(tasks: &TaskManager, email: &str) -> Result<(), AddError> {
    let add = tasks.add_task(welcome, (email.to_owned(),));
    add.idempotency_key(format!("welcome:{email}")).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tasks = TaskManager::builder().state(Mailer::default()).start().await?;
    sign_up(&tasks, "ada@example.com").await?;
    tasks.shutdown(std::time::Duration::from_secs(5)).await?;
    Ok(())
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use taskflow::testing::{Fault, Op, TestTasks};

    use super::*;

    #[tokio::test]
    async fn the_mail_is_sent_after_sign_up_retried_after_an_outage_and_not_sent_twice() {
        let mailer = Mailer::default();
        let t = TestTasks::new().state(mailer.clone()).start().await;
        sign_up(t.manager(), "ada@example.com").await.expect("it is accepted");
        sign_up(t.manager(), "ada@example.com").await.expect("it is a duplicate");

        let mail = t.assert_added(welcome).with(|(to,)| to == "ada@example.com").once();
        t.fail_next(welcome, "no route to host".to_owned());
        assert_eq!(t.drain().await.retrying, 1);
        t.advance("1m").await;
        assert!(t.ran(&mail).is_success());
        t.advance("1d").await;
        assert_eq!(mailer.0.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_lost_answer_of_the_store_sends_no_second_mail() {
        let mailer = Mailer::default();
        let t = TestTasks::new().state(mailer.clone()).start().await;
        t.fault(Fault::lose_answer(Op::Insert));
        let tasks = t.manager().clone();
        let add = tokio::spawn(async move { sign_up(&tasks, "ada@example.com").await });
        t.advance("1s").await;
        add.await.expect("it does not panic").expect("it is accepted");
        t.drain().await;
        assert_eq!(mailer.0.load(Ordering::SeqCst), 1);
    }
}
