//! What a running task knows about itself, its log lines and its progress.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::{Gate, Place, eventually, record, soon};
use taskflow::{
    FromContext, LogLevel, State, TaskContext, TaskHandle, TaskManager, TaskStatus, task::ContextError,
};

#[taskflow::task(retries = 2, timeout = "30s")]
async fn look(context: TaskContext) -> Result<Vec<String>, String> {
    let deadline = context.deadline().ok_or("no deadline")?.duration_since(SystemTime::now());
    let left = deadline.map_err(|_| "the deadline is over")?;
    if left > Duration::from_secs(30) || left < Duration::from_secs(20) {
        return Err(format!("{left:?} left"));
    }
    Ok(vec![
        context.id().to_string(),
        context.name().to_owned(),
        context.attempt().to_string(),
        context.max_attempts().to_string(),
        format!("{:?}", context.tags()),
        context.is_cancelled().to_string(),
        context.scheduled_for().is_some().to_string(),
    ])
}

async fn two_floors_down() -> Option<String> {
    tokio::task::yield_now().await;
    async { TaskContext::current().map(|context| context.id().to_string()) }.await
}

#[taskflow::task]
async fn find() -> Result<(Option<String>, Option<String>), String> {
    let spawned = tokio::spawn(two_floors_down()).await.map_err(|error| error.to_string())?;
    Ok((two_floors_down().await, spawned))
}

#[taskflow::task]
fn find_sync() -> Result<Option<String>, String> {
    Ok(TaskContext::current().map(|context| context.id().to_string()))
}

#[taskflow::task(retries = 1, delay = "1ms")]
fn log_each_attempt(context: TaskContext) -> Result<(), String> {
    context.log(LogLevel::Info, format!("attempt {}", context.attempt()));
    context.log(LogLevel::Error, "a\nb\0ü");
    Err("no".to_owned())
}

#[taskflow::task(retries = 2, delay = "1ms")]
async fn log_much(context: TaskContext, lines: u32, bytes: usize) -> Result<(), String> {
    for line in 0..lines {
        context.log(LogLevel::Debug, format!("{line:0bytes$}"));
    }
    if context.attempt() < 3 { Err("again".to_owned()) } else { Ok(()) }
}

#[taskflow::task]
async fn say_and_wait(context: TaskContext, State(gate): State<Gate>) {
    context.progress(0.25, "a quarter");
    context.log(LogLevel::Warn, "slow");
    gate.pass().await;
    context.progress(7.5, "done, ".repeat(1 << 20));
    context.log(LogLevel::Info, "over");
}

#[taskflow::task]
async fn say_at(context: TaskContext, delay: u64) {
    context.log(LogLevel::Info, "first");
    tokio::time::sleep(Duration::from_millis(delay)).await;
    context.log(LogLevel::Info, "last");
}

/// A type of this test that tasks can take as a parameter.
struct Greeting(String);

impl FromContext for Greeting {
    fn from_context(context: &TaskContext) -> Result<Self, ContextError> {
        match context.tags().get("to") {
            Some(to) => Ok(Self(format!("hello, {to}"))),
            None => Err(ContextError::new("nobody is to be greeted")),
        }
    }
}

#[taskflow::task]
async fn greet(#[inject] greeting: Greeting, times: usize) -> Result<String, String> {
    Ok(greeting.0.repeat(times))
}

async fn start(place: &Place) -> (TaskManager, Gate) {
    let gate = Gate::default();
    (place.builder().state(gate.clone()).start().await.unwrap(), gate)
}

async fn end<V: taskflow::task::TaskValue>(handle: &TaskHandle<V>) {
    let _ = soon(handle.wait()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_knows_its_task() {
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        let in_a_moment = Duration::from_millis(5);
        for (add, scheduled) in
            [(tasks.add_task(look, ()), "false"), (tasks.add_task(look, ()).run_in(in_a_moment), "true")]
        {
            let handle = add.tag("plan", "pro").await.unwrap();
            let seen = soon(handle.wait()).await.unwrap();
            let id = handle.to_string();
            assert_eq!(seen, [&id, "look", "1", "3", r#"{"plan": "pro"}"#, "false", scheduled]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_found_from_anywhere_below_and_nowhere_else() {
    let (tasks, _) = start(&Place::memory()).await;
    let handle = tasks.add(find()).await.unwrap();
    assert_eq!(soon(handle.wait()).await.unwrap(), (Some(handle.to_string()), None));
    let handle = tasks.add(find_sync()).await.unwrap();
    assert_eq!(soon(handle.wait()).await.unwrap(), Some(handle.to_string()));
    assert!(TaskContext::current().is_none());
    assert_eq!(find().await, Ok((None, None)), "called here, it is not a task");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_is_kept_with_its_level_time_and_attempt() {
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        let before = SystemTime::now() - Duration::from_millis(1);
        let handle = tasks.add_task(log_each_attempt, ()).await.unwrap();
        end(&handle).await;
        let lines = tasks.logs(handle.id()).await.unwrap().unwrap();
        let seen: Vec<_> = lines.iter().map(|it| (it.level, it.message.as_str(), it.attempt)).collect();
        use LogLevel::{Error, Info};
        let expected =
            [(Info, "attempt 1", 1), (Error, "a\nb\0ü", 1), (Info, "attempt 2", 2), (Error, "a\nb\0ü", 2)];
        assert_eq!(seen, expected);
        for line in &lines {
            assert!(line.at >= before && line.at <= SystemTime::now());
            assert_eq!(line.at.duration_since(UNIX_EPOCH).unwrap().subsec_nanos() % 1_000_000, 0);
        }
        assert!(lines.is_sorted_by_key(|line| line.at));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_logs_so_much_over_all_its_attempts_and_no_more() {
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        // The limit of lines: each attempt logs 400.
        let handle = tasks.add_task(log_much, (400, 3)).await.unwrap();
        end(&handle).await;
        let lines = tasks.logs(handle.id()).await.unwrap().unwrap();
        assert_eq!(lines.len(), 1001);
        assert_eq!(lines.iter().filter(|line| line.attempt == 3).count(), 201);
        assert!(lines[1000].message.starts_with("truncated"), "{:?}", lines[1000]);
        assert_eq!(lines[999].message, "199");

        // The limit of bytes: each attempt logs 100 KiB.
        let handle = tasks.add_task(log_much, (100, 1024)).await.unwrap();
        end(&handle).await;
        let lines = tasks.logs(handle.id()).await.unwrap().unwrap();
        assert_eq!(lines.len(), 256 + 1);
        assert!(lines[256].message.starts_with("truncated"));

        // The log is full after the first attempt. Later attempts do not repeat the note about it.
        for (count, bytes, kept) in [(1001, 3, 1000), (100, 3000, 88)] {
            let handle = tasks.add_task(log_much, (count, bytes)).await.unwrap();
            end(&handle).await;
            let lines = tasks.logs(handle.id()).await.unwrap().unwrap();
            let notes = lines.iter().filter(|line| line.message.starts_with("truncated")).count();
            assert_eq!((lines.len() - notes, notes), (kept, 1));
            let size: usize = lines.iter().map(|line| line.message.len()).sum();
            assert!(size <= 256 * 1024 + 100, "{size}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_says_is_visible_while_it_runs() {
    for place in Place::each() {
        let (tasks, gate) = start(&place).await;
        let handle = tasks.add_task(say_and_wait, ()).await.unwrap();
        gate.reached(1).await;
        let progress = eventually("its progress is seen", || async {
            let task = record(&tasks, handle.id()).await;
            assert_eq!(task.status, TaskStatus::Running);
            task.progress
        });
        let progress = progress.await;
        assert_eq!((progress.fraction, progress.message.as_str()), (0.25, "a quarter"));
        let lines = tasks.logs(handle.id()).await.unwrap().unwrap();
        assert_eq!((lines.len(), lines[0].message.as_str()), (1, "slow"));
        gate.open();
        end(&handle).await;
        let progress = record(&tasks, handle.id()).await.progress.unwrap();
        assert_eq!((progress.fraction, progress.message.len()), (1.0, 1024), "the beginning of it is kept");
        let lines = tasks.logs(handle.id()).await.unwrap().unwrap();
        assert_eq!(lines.iter().map(|line| line.message.as_str()).collect::<Vec<_>>(), ["slow", "over"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_is_lost_when_a_task_ends_while_its_lines_are_being_stored() {
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        // Lines are stored 200 ms after the first of them; these tasks end around that moment.
        let adds = (0..600).map(|n| tasks.add_task(say_at, (190 + n % 25,)));
        let handles = tasks.add_all(adds).await.unwrap();
        for handle in &handles {
            soon(handle.wait()).await.unwrap();
        }
        for handle in &handles {
            let lines = tasks.logs(handle.id()).await.unwrap().unwrap();
            let seen: Vec<_> = lines.iter().map(|line| line.message.as_str()).collect();
            assert_eq!(seen, ["first", "last"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_ones_own_is_made_from_the_context() {
    let (tasks, _) = start(&Place::memory()).await;
    let handle = tasks.add_task(greet, (2,)).tag("to", "Ada").await.unwrap();
    assert_eq!(soon(handle.wait()).await.unwrap(), "hello, Adahello, Ada");
    let handle = tasks.add_task(greet, (1,)).await.unwrap();
    let failure = soon(handle.wait()).await.unwrap_err();
    assert_eq!(failure.message(), "nobody is to be greeted");
}
