//! A small service with its tests: `cargo run --example testing` signs somebody up, and `cargo test --example testing` runs the
//! tests below.

#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use taskflow::{AddError, State, TaskManager, TaskManagerBuilder};

/// Sends mails. Here it only counts them.
#[derive(Clone, Default)]
struct Mailer(Arc<AtomicUsize>);

impl Mailer {
    #[cfg(test)]
    fn sent(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

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

/// Provides the state that the tasks of this program need.
fn configured(tasks: TaskManagerBuilder) -> TaskManagerBuilder {
    tasks.state(Mailer::default())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tasks = configured(TaskManager::builder()).start().await?;
    sign_up(&tasks, "ada@example.com").await?;
    tasks.shutdown(std::time::Duration::from_secs(5)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use taskflow::testing::{Fault, Op, TestTasks};
    use taskflow::web::Role;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn the_mail_is_sent_after_sign_up_retried_after_an_outage_and_not_sent_twice() {
        let mailer = Mailer::default();
        let t = TestTasks::new().state(mailer.clone()).start().await;
        sign_up(t.manager(), "ada@example.com").await.unwrap();

        let mail = t.assert_added(welcome).with(|(to,)| to == "ada@example.com").once();
        t.fail_next(welcome, "no route to host".to_owned());
        t.drain().await; // the first attempt fails
        t.advance("1m").await; // the retry is due, and runs
        assert!(t.ran(&mail).is_success());
        t.advance("1d").await;
        assert_eq!(mailer.sent(), 1);
    }

    #[tokio::test]
    async fn who_signs_up_twice_gets_one_mail() {
        let mailer = Mailer::default();
        let t = TestTasks::new().state(mailer.clone()).start().await;
        sign_up(t.manager(), "ada@example.com").await.unwrap();
        sign_up(t.manager(), "ada@example.com").await.unwrap();
        t.drain().await;
        assert_eq!(mailer.sent(), 1);
    }

    #[tokio::test]
    async fn a_lost_answer_of_the_store_sends_no_second_mail() {
        let mailer = Mailer::default();
        let t = TestTasks::new().state(mailer.clone()).start().await;
        t.fault(Fault::lose_answer(Op::Insert));
        let tasks = t.manager().clone();
        let add = tokio::spawn(async move { sign_up(&tasks, "ada@example.com").await });
        t.advance("1s").await;
        add.await.unwrap().unwrap();
        t.drain().await;
        assert_eq!(mailer.sent(), 1);
    }

    #[test]
    fn the_tasks_of_this_program_can_start() {
        TestTasks::new().configure(configured).check();
    }

    #[tokio::test]
    async fn an_operator_cancels_a_mail() {
        let t = TestTasks::new().configure(configured).start().await;
        sign_up(t.manager(), "ada@example.com").await.unwrap();
        let mail = t.assert_added(welcome).once();
        let cancel = Request::post(format!("/api/v1/tasks/{mail}/cancel")).body(Body::empty()).unwrap();
        let answer = t.admin(Role::Operator).oneshot(cancel).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(t.drain().await.started, 0);
    }
}
