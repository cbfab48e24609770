//! Work that an earlier version of a task stored runs as the present version.

mod support;

use support::{Place, soon};
use taskflow::{NewTask, TaskManager, TaskStatus};

#[taskflow::task(name = "mail.send", aliases = ["send_mail", "mailer"])]
async fn send(to: String, cc: Option<String>, #[arg(default)] copies: u32) -> Result<String, String> {
    Ok(format!("{to} {cc:?} {copies}"))
}

async fn run(tasks: &TaskManager, name: &'static str, args: &str) -> Result<String, String> {
    let handles = tasks.add_all([NewTask::new(name, Ok(args.into()))]).await.expect("it is stored");
    match soon(handles[0].wait()).await {
        Ok(value) => Ok(value.as_str().expect("a text").to_owned()),
        Err(failure) => {
            assert_eq!(failure.status(), TaskStatus::Failed);
            Err(failure.message().to_owned())
        }
    }
}

#[tokio::test]
async fn an_alias_runs_as_the_task_it_became() {
    let tasks = Place::memory().builder().start().await.unwrap();
    for name in ["mail.send", "send_mail", "mailer"] {
        let answer = run(&tasks, name, r#"{"to":"a","cc":"b","copies":2}"#).await;
        assert_eq!(answer, Ok("a Some(\"b\") 2".to_owned()), "{name}");
    }
}

#[tokio::test]
async fn arguments_come_and_go() {
    let tasks = Place::memory().builder().start().await.unwrap();
    // Neither `cc` nor `copies` was there yet; `subject` still was.
    let answer = run(&tasks, "mail.send", r#"{"subject":"hi","to":"a"}"#).await;
    assert_eq!(answer, Ok("a None 0".to_owned()));
    let failure = run(&tasks, "mail.send", r#"{"cc":"b"}"#).await.unwrap_err();
    assert!(failure.contains("`to`"), "{failure}");
}
