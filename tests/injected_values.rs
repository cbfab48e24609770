//! What a worker provides: its context, the builder's states, the manager, and values of one's own.

mod support;

use support::{Place, soon};
use taskflow::{Error, FromContext, State, TaskContext, TaskManager, TaskStatus, task::ContextError};

#[derive(Clone)]
struct Greeting(String);

struct Name(String);

impl FromContext for Name {
    fn from_context(context: &TaskContext) -> Result<Self, ContextError> {
        Ok(Self(context.name().to_owned()))
    }
}

struct Nothing;

impl FromContext for Nothing {
    fn from_context(_: &TaskContext) -> Result<Self, ContextError> {
        Err(ContextError::new("there is none today"))
    }
}

type Ctx = TaskContext;

#[taskflow::task]
async fn greet(
    State(Greeting(greeting)): State<Greeting>,
    #[inject] Name(task): Name,
    who: String,
    #[inject] context: Ctx,
    _: TaskManager,
) -> Result<String, String> {
    Ok(format!("{greeting}, {who}: {task} {}", context.attempt()))
}

#[taskflow::task]
fn greet_blocking(State(Greeting(greeting)): State<Greeting>, who: String) -> Result<String, String> {
    let inside = TaskContext::current().ok_or("no context")?;
    Ok(format!("{greeting}, {who}: {}", inside.name()))
}

#[taskflow::task]
async fn cannot(#[inject] _: Nothing) {}

#[tokio::test]
async fn provided_values_are_not_arguments() {
    let tasks = Place::memory().builder().state(Greeting("hello".to_owned())).start().await.unwrap();
    let handle = tasks.add_task(greet, ("you".to_owned(),)).await.unwrap();
    assert_eq!(soon(handle.wait()).await.unwrap(), "hello, you: greet 1");
    assert_eq!(support::record(&tasks, handle.id()).await.args.get(), r#"{"who":"you"}"#);

    let handle = tasks.add_task(greet_blocking, ("you".to_owned(),)).await.unwrap();
    assert_eq!(soon(handle.wait()).await.unwrap(), "hello, you: greet_blocking");
}

#[tokio::test]
async fn a_value_that_cannot_be_made_fails_the_attempt() {
    let tasks = Place::memory().builder().state(Greeting(String::new())).start().await.unwrap();
    let handle = tasks.add_task(cannot, ()).await.unwrap();
    let task = support::ends(&tasks, handle.id()).await;
    assert_eq!(task.status, TaskStatus::Failed);
    assert!(task.error.as_deref().unwrap().contains("there is none today"), "{:?}", task.error);
}

#[tokio::test]
async fn a_state_that_nobody_gave_is_found_at_the_start() {
    let error = Place::memory().builder().start().await.unwrap_err();
    assert!(matches!(&error, Error::MissingState { task, .. } if task.starts_with("greet")), "{error}");
    assert!(error.to_string().contains("Greeting"), "{error}");
}
