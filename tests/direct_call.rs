//! A task is still a function: it can be called, awaited, passed on, and call itself.

use taskflow::{State, Task};

#[taskflow::task]
async fn double(n: u32) -> Result<u32, String> {
    Ok(n * 2)
}

#[taskflow::task]
fn halve(State(by): State<u32>, n: u32) -> Result<u32, String> {
    n.checked_div(by).ok_or_else(|| "by zero".to_owned())
}

#[taskflow::task]
async fn factorial(n: u64) -> Result<u64, String> {
    Ok(if n < 2 { 1 } else { n * factorial(n - 1).await? })
}

struct Mailer;

impl Mailer {
    #[taskflow::task(name = "mailer.send")]
    async fn send(to: String) -> Result<String, String> {
        Ok(format!("to {to}"))
    }
}

#[tokio::test]
async fn awaiting_a_call_runs_the_function_here() {
    assert_eq!(double(4).await, Ok(8));
    assert_eq!(factorial(10).await, Ok(3_628_800));
    assert_eq!(Mailer::send("a@b.c".to_owned()).await, Ok("to a@b.c".to_owned()));
    assert_eq!(tokio::spawn(double(5)).await.unwrap(), Ok(10));
    assert_eq!(tokio::join!(double(1), double(2)), (Ok(2), Ok(4)));
}

#[tokio::test]
async fn a_synchronous_task_is_run_or_awaited() {
    assert_eq!(halve(State(2), 8).run(), Ok(4));
    assert_eq!(halve(State(0), 8).await, Err("by zero".to_owned()));
}

#[test]
fn nothing_runs_before_it_is_awaited() {
    #[taskflow::task]
    async fn panics() {
        panic!("the body ran, although nobody awaited the call");
    }
    drop(panics());
}

#[tokio::test]
async fn a_task_is_passed_like_any_function() {
    let calls: Vec<_> = [1, 2, 3].map(double).into();
    let mut sum = 0;
    for call in calls {
        sum += call.await.unwrap();
    }
    assert_eq!(sum, 12);
}

#[test]
fn the_descriptor_says_what_the_attribute_said() {
    fn name_of<T: Task>(_: &taskflow::Call<T>) -> (&'static str, Vec<&'static str>, bool) {
        let task = T::DESCRIPTOR;
        assert!(task.location().file.ends_with("direct_call.rs"), "{}", task.location());
        (
            task.config().name,
            task.parameters().iter().map(|it| it.name).collect::<Vec<_>>(),
            task.is_blocking(),
        )
    }
    assert_eq!(name_of(&double(1)), ("double", vec!["n"], false));
    assert_eq!(name_of(&halve(State(1), 1)), ("halve", vec!["n"], true));
    assert_eq!(name_of(&Mailer::send(String::new())), ("mailer.send", vec!["to"], false));
}
